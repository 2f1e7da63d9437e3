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
    "memory": "train/memory_gib",
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
    assert job_page.texts("[data-card=shards] tbody td:not([hidden])") == [
        "0", "0", "3", "4", "1.0 KiB", "1", "4", "6", "3", "768 B"]
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
    browser.screenshot("dashboard-jobs")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(lambda: browser.text(".job-header h1") == "tiny", "the job's page")


def test_the_list_is_of_one_user_or_state(cluster, browser, job_id, quiet_console):
    browser.open(f"{cluster.url}/#/")
    wait_for(lambda: browser.texts(".jobs tbody tr"), "the list")
    owner = cluster.get(f"/jobs/{job_id}")["owner"]
    choose(browser, "filter-state", "RUNNING")
    wait_for(lambda: browser.texts(".jobs tbody tr") == [], "no job that runs")
    choose(browser, "filter-state", "COMPLETED")
    choose(browser, "filter-user", owner)
    wait_for(lambda: job_id in (browser.text(".jobs tbody tr") or ""), "the job that has run")
    choose(browser, "filter-state", "")
    choose(browser, "filter-user", "")


def choose(browser, select, value):
    browser.script("""
        const select = document.getElementById(arguments[0]);
        select.value = arguments[1];
        select.dispatchEvent(new Event('change', {bubbles: true}));""", select, value)
    assert browser.script("return document.getElementById(arguments[0]).value", select) == value


def test_nodes_and_users_are_shown(cluster, browser, job_id, quiet_console):
    cluster.run("frctl", "drain", "localhost", "--reason", "<b>new memory</b>")
    try:
        browser.open(f"{cluster.url}/#/cluster")
        row = "[data-card=nodes] tbody tr"
        wait_for(lambda: "Drained" in (browser.text(row) or ""), "the drained node")
        assert "localhost" in browser.text(row) and "0 of 4" in browser.text(row)
        assert "<b>new memory</b>" in browser.text(row)
        browser.screenshot("dashboard-cluster")
    finally:
        cluster.run("frctl", "undrain", "localhost")
    wait_for(lambda: "Up" in browser.text(row), "the node without a mark")
    owner = cluster.get(f"/jobs/{job_id}")["owner"]
    assert owner in browser.texts("[data-card=users] tbody td:first-child")


def test_gpus_are_shown_by_model(browser, gpu_cluster, quiet_console):
    browser.open(f"{gpu_cluster.url}/#/cluster")
    row = "[data-card=nodes] tbody tr"
    wait_for(lambda: "0 of 2" in (browser.text(row) or ""), "the node's GPUs")
    assert "1 x NVIDIA H100 80GB HBM3, 1 x NVIDIA A100-SXM4-40GB" in browser.text(row)


def test_it_fits_a_phone_and_the_dark(cluster, browser, job_id, quiet_console):
    browser.resize(390, 844)
    try:
        for path, name in (("/#/", "jobs"), (f"/#/jobs/{job_id}", "job"), ("/#/cluster", "cluster")):
            browser.open(cluster.url + path)
            wait_for(lambda: browser.visible(
                ".jobs tbody tr, .job-header h1, [data-card=nodes] tbody tr"), path)
            browser.colour_scheme("dark")
            assert browser.script(
                "return document.documentElement.scrollWidth <= innerWidth"), path
            browser.screenshot(f"dashboard-{name}-phone-dark")
    finally:
        browser.colour_scheme("light")
        browser.resize(1280, 900)


def test_a_screenshot_for_people(job_page, quiet_console):
    assert job_page.screenshot("dashboard-job").stat().st_size > 20_000


REPORTED = {
    "train/time/data_ms": [2, 3], "train/time/forward_ms": [40, 41], "train/time/head_ms": [30, 31],
    "train/time/backward_ms": [80, 82], "train/time/communication_ms": [5, 6],
    "train/time/optimizer_ms": [3, 3], "train/time/other_ms": [1200, 1],
    "train/memory_gib": [1.5, 1.75], "head/dropped_mass": [0.001, 0.0005],
    "triplet/active_share": [0.5, 0.25],
    "shard/0/targets": [0.5, 0.6], "shard/1/targets": [0.5, 0.4],
}


DRAW_CHARTS = """
    const [reported, done] = arguments;
    const series = Object.entries(reported).map(
      ([name, values]) => ({name, steps: [10, 20], values}));
    const asked = [];
    window.fetch = async (url) => {
      asked.push(new URL(url, location).searchParams.get('names').split(','));
      return {status: 200, json: async () => ({series})};
    };
    import('/job_charts.js').then(async ({JobCharts}) => {
      const charts = new JobCharts();
      const main = document.createElement('main');
      main.append(charts.node);
      document.body.replaceChildren(main);
      await charts.refresh({id: 'job-1', state: 'RUNNING', attempt: 1, progress: {step: 20},
                            validation_sets: []});
      const texts = (node, selector) =>
        [...node.querySelectorAll(selector)].map((one) => one.textContent);
      const cards = [...document.querySelectorAll('[data-chart]')]
        .filter((card) => card.checkVisibility())
        .map((card) => [card.dataset.chart, {
          labels: texts(card, '.label'), values: texts(card, 'data'),
          points: card.querySelector('canvas').dataset.points}]);
      done([Object.fromEntries(cards), asked[0]]);
    }).catch((error) => done([String(error), []]));"""


@pytest.fixture
def draw_charts(browser, cluster):
    """The charts of a job with given metrics at steps 10 and 20, alone on the page. Returns for each
    card that is shown its labels, last values as text, and the number of points of each curve; and
    the names that were asked for."""
    def draw(reported):
        browser.open(cluster.url)
        return browser.driver.execute_async_script(DRAW_CHARTS, reported)

    yield draw
    browser.open("about:blank")  # where the page's own fetch is gone


def test_what_a_job_reports_beyond_its_loss_is_drawn(browser, draw_charts, quiet_console):
    shown, asked = draw_charts(REPORTED)
    assert {"train/time/", "shard/", "train/memory_gib"} <= set(asked)
    assert shown["time"] == {
        "labels": ["data", "forward", "head", "backward", "communication", "optimizer", "other"],
        "values": ["3 ms", "41 ms", "31 ms", "82 ms", "6 ms", "3 ms", "1 ms"],
        "points": "2 2 2 2 2 2 2"}
    assert shown["memory"] == {"labels": [""], "values": ["1.75 GiB"], "points": "2"}
    assert shown["dropped"]["values"] == ["5.00e-4"]
    assert shown["active"]["values"] == ["25.00 %"]
    assert shown["targets"] == {"labels": ["rank 0", "rank 1"], "values": ["60.00 %", "40.00 %"],
                                "points": "2 2"}
    # Seven curves, seven colours.
    colours = browser.script("""
        return [...document.querySelectorAll('[data-chart=time] .swatch')].map(
          (one) => getComputedStyle(one).backgroundColor)""")
    assert len(set(colours)) == 7
    browser.screenshot("dashboard-charts")


# Many ranks are shown by the least and the most that one of them holds.
def test_many_ranks_become_two_curves(draw_charts, quiet_console):
    shares = {f"shard/{rank}/targets": [rank / 100, 0.12 - rank / 100] for rank in range(12)}
    shown, _ = draw_charts(shares)
    assert shown["targets"] == {"labels": ["least of 12 ranks", "most"],
                                "values": ["1.00 %", "12.00 %"], "points": "2 2"}


def test_charts_of_what_a_job_does_not_report_are_left_out(draw_charts, quiet_console):
    shown, _ = draw_charts({"train/loss": [2, 1]})
    assert set(shown) == {"loss", "lr", "speed", "accuracy"}


# Of a job that has ended, too, and without loading the page again.
def test_a_pinned_checkpoint_is_marked(cluster, job_page, job_id, quiet_console):
    step = cluster.get(f"/jobs/{job_id}/checkpoints")["checkpoints"][-1]["step"]
    first = lambda: job_page.text("[data-card=checkpoints] tbody td")
    assert first() == str(step)
    for command, text in (("pin", f"{step} · pinned"), ("unpin", str(step))):
        assert cluster.run("frctl", command, job_id, step).returncode == 0
        wait_for(lambda text=text: first() == text, f"the mark of {command}")


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
