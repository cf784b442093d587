from support.archive import archive, decoder, doorbell, engine, folder, settings, store

__all__ = ["archive", "decoder", "doorbell", "engine", "folder", "settings", "store"]
