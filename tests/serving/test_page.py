"""The page in a real browser, with a simulated camera that shows known letters."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from preprocessing.hand_detection import hand_detector
from tests.pictures import photograph
from tests.servers import Server, served
from tests.serving.conftest import WORD

# Frames per letter, at 30 a second: long enough for a letter to count, on a slow machine too.
HELD_FRAMES = 100


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Motion JPEG of hands that sign the word, each at another place in 640 x 480 pixels."""
    path = tmp_path_factory.mktemp("video") / "word.mjpeg"
    with path.open("wb") as file:
        for letter, position in zip(WORD, ((20, 40), (300, 180), (360, 30), (100, 200)), strict=True):
            frame = photograph((letter, 260, position))
            assert hand_detector().detect(frame) is not None
            buffer = io.BytesIO()
            frame.save(buffer, "JPEG", quality=95)
            file.write(buffer.getvalue() * HELD_FRAMES)
    return path


@pytest.fixture(scope="module")
def browser(video: Path) -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "these tests need a browser: apt-get install chromium"
    camera_options = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *camera_options])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(run, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(30_000)
    page = context.new_page()
    requested_urls: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requested_urls.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    with page.expect_response("**/v1/model"):
        page.goto(server.url)
    yield page
    context.close()
    assert errors == []
    assert all(url.startswith((server.url, "blob:")) for url in requested_urls), requested_urls


def test_a_word_signed_in_front_of_the_camera_is_spelled(page: Page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#raw")).to_have_text(WORD, timeout=60_000)
    expect(page.get_by_label("Left hand")).to_be_hidden()
    assert page.locator("#overlay").evaluate("drawn => drawn.toDataURL().length") > 5000  # the box and the joints
    page.get_by_role("button", name="Stop the camera").click()
    page.get_by_role("group", name="Suggested words").get_by_role("button", name=WORD, exact=True).click()
    expect(page.locator("#text")).to_have_text(WORD)
    expect(page.locator("#raw")).to_have_text("")


def test_a_word_is_practiced_and_the_score_is_shown(page: Page) -> None:
    page.get_by_role("button", name="Practice").click()
    page.get_by_label("Word to sign").fill(WORD.lower())
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("img", name=f"The sign for {WORD[0]}")).to_be_visible()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#score")).to_contain_text(f"{WORD} in", timeout=60_000)
    page.get_by_role("button", name="Stop the camera").click()


def test_a_word_with_a_letter_that_the_network_does_not_know_is_rejected(page: Page) -> None:
    page.get_by_role("button", name="Practice").click()
    page.get_by_label("Word to sign").fill("JAZZ")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("alert")).to_have_text("This network does not know J, Z.")


def test_a_picture_is_opened_and_another_file_is_reported(page: Page, run: Path, tmp_path: Path) -> None:
    page.get_by_label("Open a picture").set_input_files(run / "samples/C.png")
    expect(page.locator("#letter")).to_have_text("C")
    expect(page.get_by_role("list", name="The likeliest letters").get_by_role("listitem")).to_have_count(5)
    assert "No hand" not in page.locator("#hint").inner_text()  # so small a picture is not searched
    photograph().save(tmp_path / "room.png")
    page.get_by_label("Open a picture").set_input_files(tmp_path / "room.png")
    expect(page.locator("#hint")).to_have_text("room.png: No hand is in the picture.")
    expect(page.locator("#letter")).to_have_text("–")
    page.get_by_label("Open a picture").set_input_files(run / "class_names.json")
    expect(page.get_by_role("alert")).to_have_text("class_names.json is not a picture that this browser can open.")


def test_the_page_can_be_used_with_the_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Spell")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Practice")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Start the camera")).to_be_focused()


def test_a_server_that_keeps_no_pictures_says_how_to_teach(page: Page) -> None:
    page.get_by_role("button", name="Teach").click()
    expect(page.locator("#teach")).to_contain_text("start it with --pictures DIR")
    expect(page.get_by_role("button", name="Record")).to_be_hidden()


def test_a_hand_is_taught_after_consent_and_its_pictures_can_be_deleted(
    browser: Browser, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my_hand"
    with served(run, tmp_path / "log", "", "--pictures", folder) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_role("button", name="Teach").click()
        expect(page.get_by_role("button", name="Record")).to_be_disabled()
        page.get_by_label("I agree that pictures of my hand are kept").check()
        page.locator("#teach-letter").select_option("B")
        page.get_by_role("button", name="Record").click()
        expect(page.locator("#teach-progress")).to_contain_text("Sign B: 3")
        expect(page.locator("#teach-progress")).to_have_text("B: all 15 pictures are kept.", timeout=90_000)
        expect(page.locator("#teach-letter")).to_have_value("C")  # the next letter
        names = sorted(file.name for file in (folder / "B").iterdir())
        assert len(names) == 15
        assert len({name.split("_")[0] for name in names}) == 3  # three bursts
        # the letters of the video are now B: the network knows what was taught
        page.get_by_role("button", name="Spell").click()
        likely = page.get_by_role("list", name="The likeliest letters")
        expect(likely.get_by_text("B", exact=True)).to_be_visible(timeout=30_000)  # the whole video, on a slow machine
        with page.expect_response("**/v1/taught"):
            page.get_by_role("button", name="Teach").click()
        page.get_by_text("B: 15 pictures").click()
        page.get_by_role("button", name=f"Delete B, {names[0]}").click()
        expect(page.get_by_text("B: 14 pictures")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download all").click()
        assert download.value.suggested_filename == "my_hand.zip"
        page.get_by_role("button", name="Delete all", exact=True).click()
        expect(page.get_by_text("All pictures are deleted.")).to_be_visible()
        assert list((folder / "B").iterdir()) == []
        page.close()


def test_an_unreachable_server_is_reported(page: Page) -> None:
    page.route("**/v1/predict", lambda route: route.abort())
    page.get_by_role("button", name="Start the camera").click()
    expect(page.get_by_role("alert")).to_have_text("No answer: the server cannot be reached")
    page.get_by_role("button", name="Stop the camera").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_phones_and_desks(browser: Browser, server: Server, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
