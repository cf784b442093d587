"""The pages in a real browser: Debian's Chromium, driven by Playwright, against an API process and a worker."""

import re
import shutil

import httpx
import pytest
from support.ledger import Ledger
from support.photos import png
from support.promptiqa import write_tiny_promptiqa
from support.site import KEY

from dpiqa.access import Grants
from dpiqa.storage.api_keys import KeyRequest, create_key
from dpiqa.types import KeyScope

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: install the group `test`")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: install the group `test`")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium"), pytest.mark.slow]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WCAG = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]


@pytest.fixture
def browse(site):
    """Give a function that opens a page; what it must not do is collected and fails the test."""
    faults = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

        def opened(**options):
            page = browser.new_context(base_url=site.url, **options).new_page()
            page.set_default_timeout(60_000)
            page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda request: faults.append(request.url) if is_foreign(request.url) else None)
            return page

        def is_foreign(url):
            return not url.startswith((site.url, "data:", "blob:"))

        opened.faults = faults
        yield opened
        browser.close()
    assert faults == []


def log_in(page, key=KEY):
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()


def problems_of(page):
    return [violation["id"] for violation in axe.Axe().run(page, options={"runOnly": WCAG}).response["violations"]]


def cards(page):
    return page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.key)")


def test_a_job_is_watched_to_its_end_and_its_scores_are_explored(site, browse):
    site_job = site.submit()
    page = browse()
    page.goto(f"/jobs/{site_job.id}")
    log_in(page)  # and back to the page that was asked for
    page.wait_for_url(re.compile(f"/jobs/{site_job.id}$"))
    page.get_by_text("complete", exact=True).wait_for()  # nobody reloads the page
    assert page.get_by_role("link", name="truncated").is_visible()
    assert page.locator("progress").get_attribute("value") == "31"
    page.get_by_role("link", name="truncated").click()
    page.get_by_role("link", name="dark/broken.jpg").click()
    assert page.get_by_text("It has no score").is_visible()

    page.goto(f"/scores?bucket={site.bucket.name}")
    assert cards(page) == [f"{'dark' if n < 15 else 'light'}/{n:02}.png" for n in range(30)]
    page.locator(".card img").first.scroll_into_view_if_needed()
    of_picture = playwright.expect(page.locator(".card img").first)  # waits without `eval`, which the pages forbid
    of_picture.not_to_have_js_property("naturalWidth", 0, timeout=60_000)
    with page.expect_navigation():
        page.get_by_role("link", name="light/", exact=True).click()
    assert len(cards(page)) == 15
    page.get_by_label("Bucket").fill(site.bucket.name)
    page.get_by_label("Prefix").fill("")
    with page.expect_navigation():
        page.get_by_role("button", name="Show").click()
    histogram = page.locator(".histogram .u-over").bounding_box()
    middle = histogram["y"] + histogram["height"] / 2
    page.mouse.move(histogram["x"] + 2, middle)
    page.mouse.down()
    page.mouse.move(histogram["x"] + histogram["width"] / 3, middle, steps=5)
    with page.expect_navigation(url=re.compile("max=")):
        page.mouse.up()
    few = cards(page)
    assert 5 <= len(few) <= 15
    assert few == [f"dark/{n:02}.png" for n in range(len(few))]

    page.locator("#grid").focus()
    for key in ("ArrowRight", "Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    assert page.locator("#selected").inner_text().strip() == "2 marked."
    with page.expect_download() as saved:
        page.get_by_role("button", name="Keys").click()
    assert saved.value.path().read_text() == "dark/00.png\ndark/01.png\n"
    page.keyboard.press("Escape")
    page.locator("#grid").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/image"))
    assert page.get_by_text("Nearest scores in the folder").is_visible()
    playwright.expect(page.locator("img.large")).to_have_js_property("naturalWidth", 64, timeout=60_000)
    page.get_by_role("button", name="Which regions move the score?").click()
    page.get_by_text("hold it up").wait_for()  # a worker made them, and nobody reloads the page
    assert page.locator("#regions rect").count() == 64


def test_a_requirement_is_defined_by_uploads_corrected_and_tried(site, browse):
    write_tiny_promptiqa(site.settings.models_dir, "tiny")
    page = browse()
    page.goto("/requirements/new")
    log_in(page)
    uploads = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": png(n / 4)} for n in range(5)]
    uploads.append({"name": "words.png", "mimeType": "image/png", "buffer": b"no picture"})
    several = page.get_by_label("Choose several at once")
    several.wait_for()  # the script shows it, and takes what is put in from then on
    several.set_input_files(uploads)
    rows = page.locator("#uploads .pair")
    for n in range(6):
        rows.nth(n).get_by_label("Score").fill(str(min(n, 4) / 4))
    for n in range(5):
        preview = playwright.expect(page.locator("#uploads img").nth(n))
        preview.to_have_js_property("naturalWidth", 64, timeout=60_000)
    page.get_by_label("Name").fill("bright")
    page.get_by_label("Model").fill("tiny")
    page.get_by_label("Store uploads in").fill(f"s3://{site.bucket.name}/isp/")
    page.get_by_label("Accept pairs that contradict").check()  # of random weights nobody knows
    page.get_by_role("button", name="Check and save").click()
    page.get_by_text("1 of 6 uploads cannot be used: words.png").wait_for()
    rows.nth(5).locator('input[type="file"]').set_input_files([])
    page.get_by_role("button", name="Check and save").click()
    page.wait_for_url(re.compile("/requirements/bright@1$"))
    page.get_by_text("Do the pairs agree?").wait_for()
    assert page.locator("#state circle").count() == 5
    page.get_by_label("Images of the archive").fill(
        "".join(f"s3://{site.bucket.name}/{key}\n" for key in ("light/29.png", "dark/broken.jpg"))
    )
    page.get_by_role("button", name="Score by bright@1").click()
    page.wait_for_url(re.compile("job="))
    page.get_by_text("2 of 2 scored").wait_for()
    assert page.locator("#tried .card").count() == 2
    assert page.get_by_text("truncated").is_visible()
    assert problems_of(page) == []


def test_pages_can_be_used_by_everybody(site, browse):
    job = site.submit()
    site.wait(lambda: site.ended() == 31, "end of the job")
    for options in ({}, {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}}):
        page = browse(**options)
        page.goto("/")
        assert problems_of(page) == []
        log_in(page)
        paths = ["/", "/jobs", f"/jobs/{job.id}", f"/jobs/{job.id}/items?state=rejected"]
        paths += ["/requirements", "/requirements/new", "/threshold", "/compare"]
        for path in [*paths, "/scores", f"/image?bucket={site.bucket.name}&key=dark/00.png", "/jobs/00000000"]:
            answer = page.goto(path)
            page.wait_for_load_state("networkidle")
            assert problems_of(page) == [], path
            too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert too_wide <= 0, path
            assert answer.status in (200, 404)
    browse.faults[:] = [fault for fault in browse.faults if "404" not in fault]  # Chromium reports the unknown job


def label_all(page, is_bad):
    """Label all pictures of the deck by keys."""
    page.locator("#deck").focus()
    for _ in range(page.locator("#deck figure").count()):
        key = page.locator("#deck figure:not([hidden])").get_attribute("data-key")
        with page.expect_response(lambda answer: answer.url.endswith("/v1/labels")) as saved:
            page.keyboard.press("r" if is_bad(key) else "a")
        assert saved.value.status == 200


def test_a_threshold_is_chosen_by_labels_and_kept_as_a_profile(site, browse):
    site.submit()
    site.wait(lambda: site.ended() == 31, "end of the job")
    page = browse()
    page.goto(f"/threshold?bucket={site.bucket.name}&cutoff=0.3")
    log_in(page)
    page.get_by_text("0 labels here").wait_for()
    assert page.locator("#curve").count() == 0
    label_all(page, lambda key: int(key[-6:-4]) < 12)  # the scores rise with the number
    page.get_by_text("30 labels here, 12 of them reject; 30 are of a random sample.").wait_for()
    page.locator("#curve canvas").wait_for()
    page.get_by_label("Wanted precision").fill("1")
    page.get_by_text("a precision of at least 1.0 by these labels").wait_for()  # the button before belongs to .9
    page.locator("[data-use]").first.click()
    page.wait_for_url(re.compile(r"cutoff=0\.\d+.*precision=1"))
    share = page.locator("#share")
    playwright.expect(share).to_have_text("40.0 %")  # 12 of 30
    assert "1.00 0.76 to 1.00, 12 labels" in page.locator("#figures dl").inner_text().replace("\n", " ")
    before = page.url
    page.locator("#slider").focus()
    for _ in range(200):
        page.keyboard.press("ArrowRight")
    cutoff = page.get_by_label("Cut-off", exact=True).last.input_value()
    page.wait_for_url(re.compile(rf"cutoff={re.escape(cutoff)}\b"))  # the answer to the last key, not to one before it
    moved = share.inner_text()
    assert moved != "40.0 %"
    page.reload()
    assert (share.inner_text(), page.url != before) == (moved, True)  # the address holds it
    page.goto(before)
    page.get_by_label("Name of the profile").fill("portfolio")
    page.get_by_role("button", name="Save as a profile").click()
    page.get_by_text(f"dpiqa submit s3://{site.bucket.name}/ --profile portfolio@1").wait_for()
    body = {"source": f"s3://{site.bucket.name}/", "profile": "portfolio"}
    job = httpx.post(f"{site.url}/v1/jobs", json=body, headers={"X-API-Key": KEY}).raise_for_status().json()
    page.goto(f"/jobs/{job['id']}")
    page.get_by_text("complete", exact=True).wait_for()
    assert (
        page.get_by_role("row", name="score known before").get_by_text("30").is_visible()
    )  # nothing is computed again

    page.goto(f"/compare?bucket={site.bucket.name}&second=portfolio@1")
    page.locator("#scatter canvas").wait_for()
    assert "1.000" in page.locator("dl.figures").inner_text()
    assert page.get_by_text("Decisions that differ").locator("..").inner_text().endswith("0.0 %")


def test_a_limited_key_sees_no_page_of_others(site, browse):
    job = site.submit("dark/")
    site.wait(lambda: site.ended() == 16, "end of the job")
    ledger = Ledger(site.engine)
    grants = Grants.of([f"s3://{site.bucket.name}/light/"])
    _, text = ledger.do(create_key, KeyRequest(name="light", scopes=[KeyScope.READ], grants=grants))
    page = browse()
    page.goto("/")
    log_in(page, text)
    assert page.get_by_text("No job yet").is_visible()
    for path in (
        f"/jobs/{job.id}",
        f"/image?bucket={site.bucket.name}&key=dark/00.png",
        f"/scores?bucket={site.bucket.name}&prefix=dark/",
        f"/thumbnail?bucket={site.bucket.name}&key=dark/00.png",
    ):
        assert page.goto(path).status == 404
    page.goto("/")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(re.compile("/login"))
    page.goto("/jobs")
    assert page.url.endswith("/login?next=%2Fjobs")
    browse.faults[:] = [fault for fault in browse.faults if "404" not in fault]
