"""The dashboard in a real Chromium, over a real job."""

import pytest
from selenium.webdriver.common.keys import Keys

from browser import Browser
from cluster import wait_for

CHARTS = {
    "loss": "train/loss",
    "lr": "train/lr",
    "speed": "train/images_per_second",
    "accuracy": "val/synth/accuracy",
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def quiet_console(browser):
    """No error may appear in the console while the test runs."""
    browser.console_errors()
    yield
    assert browser.console_errors() == []


def test_without_jobs_the_page_says_what_to_do(browser, empty_cluster, quiet_console):
    browser.open(empty_cluster.url)
    wait_for(lambda: browser.visible(".nothing"), "the empty state")
    assert "fr-submit job.yaml" in browser.text(".nothing")
    assert "0 of 2 slots in use" in browser.text("#nodes")
    assert not browser.visible("#banner")
    browser.open(f"{empty_cluster.url}/#/jobs/job-7")
    wait_for(lambda: "job-7" in (browser.text(".nothing") or ""), "the word that there is no job-7")
    browser.console_errors()  # Chromium reports every 404 as an error


@pytest.fixture(scope="module")
def job_id(cluster, browser, job_file):
    """A job whose page was open from its submission to its end."""
    job_id = cluster.submit(job_file)
    browser.console_errors()
    browser.open(f"{cluster.url}/#/jobs/{job_id}")
    wait_for(lambda: browser.text(".job-header .state") in ("Completed", "Failed"),
             "the end of the job on its page", seconds=400)
    return job_id


@pytest.fixture
def job_page(cluster, browser, job_id):
    browser.open(f"{cluster.url}/#/jobs/{job_id}")
    wait_for(lambda: browser.text("[data-chart=loss] data"), "the curves")
    wait_for(lambda: browser.texts("[data-card=checkpoints] tbody tr"), "the checkpoints")
    return browser


# The page was opened while the job waited: all that is on it came by polling.
def test_a_job_is_shown_from_its_submission_to_its_end(cluster, browser, job_id):
    assert browser.text(".job-header h1") == "tiny"
    assert browser.text(".job-header .state") == "Completed", browser.text(".reason")
    assert job_id in browser.text(".job-header .summary")
    assert browser.texts(".timeline .state") == ["Pending", "Starting", "Running", "Completed"]
    check_charts(cluster, browser, job_id)
    assert browser.console_errors() == []


def check_charts(cluster, browser, job_id):
    def shown():
        series = {one["name"]: one
                  for one in cluster.get(f"/jobs/{job_id}/metrics")["series"]}
        for chart, metric in CHARTS.items():
            points, value, step = browser.script("""
                const card = document.querySelector(`[data-chart=${arguments[0]}]`);
                const last = card.querySelector('data');
                return [card.querySelector('canvas').dataset.points, last?.value ?? null,
                        last?.dataset.step ?? null];""", chart)
            one = series[metric]
            if value is None or (points, float(value), int(step)) != (
                    str(len(one["steps"])), one["values"][-1], one["steps"][-1]):
                return False
        return True

    wait_for(shown, "charts that hold what the API gives")


def test_the_charts_hold_what_the_api_gives(cluster, job_page, job_id, quiet_console):
    check_charts(cluster, job_page, job_id)
    # Something is drawn, in the colour of the curve.
    for chart in CHARTS:
        assert job_page.script("""
            const canvas = document.querySelector(`[data-chart=${arguments[0]}] canvas`);
            const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            let coloured = 0;
            for (let i = 0; i < data.length; i += 4) {
              if (data[i + 3] > 200 && data[i + 2] > data[i] + 60) coloured += 1;
            }
            return coloured;""", chart) > 100
        # Whoever cannot see the curve is told its last value.
        label = job_page.script("return document.querySelector(arguments[0]).ariaLabel",
                                f"[data-chart={chart}] canvas")
        assert "at step" in label


def test_checkpoints_shards_and_log_are_shown(cluster, job_page, job_id, quiet_console):
    checkpoints = cluster.get(f"/jobs/{job_id}/checkpoints")["checkpoints"]
    rows = job_page.texts("[data-card=checkpoints] tbody tr td:first-child")
    assert rows == [str(one["step"]) for one in reversed(checkpoints)]
    assert all("synth" in text for text in job_page.texts(
        "[data-card=checkpoints] tbody tr td:nth-child(2)"))
    assert job_page.texts("[data-card=shards] tbody td") == [
        "0", "0", "3", "4", "1", "4", "6", "3"]
    tail = cluster.get(f"/jobs/{job_id}/logs?offset=-200")["text"]
    wait_for(lambda: (job_page.text(".log") or "").endswith(tail), "the end of the log")


# What a job file says is text, whatever it looks like.
def test_a_job_file_is_never_taken_for_html(job_page, quiet_console):
    assert "<img src=x" in job_page.text("details pre")
    assert job_page.script("return document.querySelectorAll('main img').length") == 0
    assert "hacked" not in job_page.driver.title


def test_the_list_leads_to_the_job_by_keyboard(cluster, browser, job_id, quiet_console):
    browser.open(f"{cluster.url}/#/")
    wait_for(lambda: browser.texts(".jobs tbody tr"), "the list")
    assert browser.texts(".jobs .state")[0] == "Completed"
    row = browser.text(".jobs tbody tr")
    assert "tiny" in row and job_id in row and "%" in row
    # The list is drawn anew every poll: the focus must stay where it is.
    browser.script("document.querySelector('.job-link').focus()")
    first_age = browser.text(".jobs td:last-child")
    wait_for(lambda: browser.text(".jobs td:last-child") != first_age, "another poll")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(lambda: browser.text(".job-header h1") == "tiny", "the job's page")
    browser.screenshot("dashboard-jobs")


def test_it_fits_a_phone_and_the_dark(cluster, browser, job_id, quiet_console):
    browser.resize(390, 844)
    try:
        for path, name in (("/#/", "jobs"), (f"/#/jobs/{job_id}", "job")):
            browser.open(cluster.url + path)
            wait_for(lambda: browser.visible(".jobs tbody tr, .job-header h1"), path)
            browser.colour_scheme("dark")
            assert browser.script(
                "return document.documentElement.scrollWidth <= innerWidth"), path
            browser.screenshot(f"dashboard-{name}-phone-dark")
    finally:
        browser.colour_scheme("light")
        browser.resize(1280, 900)


def test_a_screenshot_for_people(job_page, quiet_console):
    assert job_page.screenshot("dashboard-job").stat().st_size > 20_000


# A job that goes back to its last checkpoint trains some steps again: their points replace the old.
def test_curves_follow_a_job_that_was_restarted(job_page):
    result = job_page.driver.execute_async_script("""
        const done = arguments[0];
        import('/series.js').then(({Curves}) => {
          const curves = new Curves();
          const one = (steps, values) => [{name: 'train/loss', steps, values}];
          curves.merge(one([5, 10, 15], [3, 2, 1]), -1);
          const onward = curves.afterStep(15);
          curves.merge(one([15, 20], [1, 0.5]), onward);
          const back = curves.afterStep(12);
          curves.merge(one([5, 10, 15, 20], [3, 2, 9, 0.5]), back);
          done([onward, back, curves.points('train/loss').map(({x, y}) => [x, y])]);
        }, (error) => done(String(error)));""")
    assert result == [14, -1, [[5, 3], [10, 2], [15, 9], [20, 0.5]]]


def test_the_page_says_that_the_coordinator_is_away_and_recovers(cluster, job_page, job_id):
    job_page.script("window.scrollTo(0, 400)")
    cluster.kill()
    wait_for(lambda: job_page.visible("#banner"), "the banner")
    assert "cannot be reached" in job_page.text("#banner-cause")
    assert "old" in job_page.text("#banner-age")
    assert job_page.text("#link") == "Not connected"
    # What was known stays on the page.
    assert job_page.text(".job-header h1") == "tiny"
    job_page.screenshot("dashboard-unreachable")

    cluster.start()
    wait_for(lambda: not job_page.visible("#banner"), "the banner to go")
    assert job_page.text("#link") == "Live"
    check_charts(cluster, job_page, job_id)
    # Chromium notes each refused connection; nothing else may have gone wrong.
    assert [error for error in job_page.console_errors() if "ERR_" not in error] == []
