"""`python -m dpiqa.api`: serve the API. A wrong setting ends it with one line, not with a traceback."""

import gc
import sys

from dpiqa.process_tuning import without_collections

with without_collections():
    from dpiqa.errors import DpiqaError
    from dpiqa.exit_codes import exit_code
    from dpiqa.extras import required_for
    from dpiqa.logs import configure_logging
    from dpiqa.pipeline.startup import require_port
    from dpiqa.settings import load_settings

_SHUTDOWN_SECONDS = 10  #: requests still running after that are cut off


def main() -> int:
    """Serve until a signal. Returns the exit code."""
    try:
        with required_for("the API", "api"), without_collections():
            import uvicorn  # noqa: PLC0415 - an extra

            from .app import create_app  # noqa: PLC0415 - likewise
            from .pages.rendering import compile_templates  # noqa: PLC0415 - likewise
        settings = load_settings()
        configure_logging(settings)
        require_port("the API", settings.api_host, settings.api_port, "DPIQA_API_PORT")
        app = create_app(settings)
    except DpiqaError as error:
        print(f"dpiqa api: {error}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return exit_code(error).value
    compile_templates()
    # What was imported lives as long as the process: looking through it for garbage would stop a request now and again.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host=settings.api_host.strip("[]"),
        port=settings.api_port,
        log_config=None,  # lines go where all others go
        access_log=False,  # our access log is more detailed and safer
        server_header=False,
        proxy_headers=False,  # the application believes the proxies of its setting, and no others
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
