// The list of jobs, latest first.
import {get} from '/api.js';
import {element, reconcile, setAttribute, setText} from '/dom.js';
import {age, count, decimal, DASH, duration, percent, rate, share} from '/format.js';
import {progressBar, setProgress, setState, stateBadge} from '/parts.js';

const COLUMNS = ['State', 'Job', 'Progress', 'Loss', 'Images/s', 'Time left', 'Accuracy', 'Submitted'];

export class JobsView {
  constructor() {
    this.rows = element('tbody');
    this.summary = element('p', {class: 'summary'});
    this.table = element('table', {class: 'jobs', hidden: 'hidden'},
      element('caption', {class: 'hidden-text'}, 'Jobs, latest first'),
      element('thead', {}, element('tr', {},
        ...COLUMNS.map((name) => element('th', {scope: 'col'}, name)))),
      this.rows);
    this.empty = element('div', {class: 'card nothing', hidden: 'hidden'},
      element('h2', {}, 'No jobs yet'),
      element('p', {}, 'Describe one in a file and submit it:'),
      element('pre', {}, element('code', {}, 'fr-submit job.yaml')),
      element('p', {}, 'It appears here at once. ',
        element('code', {}, 'fr-submit --help'), ' says more; ',
        element('code', {}, 'configs/quickstart.yaml'), ' is a file to begin with.'));
    this.node = element('div', {class: 'page'},
      element('div', {class: 'title-line'}, element('h1', {}, 'Jobs'), this.summary),
      this.table, this.empty);
    this.title = 'Jobs';
  }

  async refresh(signal) {
    const {jobs, total} = await get('/jobs', {}, signal);
    const now = Date.now();
    this.table.hidden = jobs.length === 0;
    this.empty.hidden = jobs.length > 0;
    setText(this.summary, summaryText(jobs, total));
    reconcile(this.rows, jobs, (job) => job.id, makeRow, (row, job) => updateRow(row, job, now));
  }

  destroy() {}
}

function summaryText(jobs, total) {
  if (!jobs.length) return '';
  const running = jobs.filter((job) => job.state === 'RUNNING').length;
  const waiting = jobs.filter((job) => job.state === 'PENDING').length;
  const shown = total > jobs.length ? `latest ${jobs.length} of ${count(total)}` : count(total);
  return `${shown} in all · ${running} running · ${waiting} waiting`;
}

function makeRow(job) {
  const cell = (label, ...content) => element('td', {'data-label': label}, ...content);
  return element('tr', {},
    cell('State', stateBadge()),
    cell('Job', element('a', {class: 'job-link', href: `#/jobs/${encodeURIComponent(job.id)}`}),
         element('span', {class: 'id'})),
    cell('Progress', progressBar(), element('span', {class: 'small'})),
    ...COLUMNS.slice(3).map((label) => cell(label)));
}

function updateRow(row, job, now) {
  const [state, name, progress, loss, speed, left, accuracy, submitted] = row.children;
  setAttribute(row, 'data-state', job.state);
  setState(state.firstElementChild, job.state);
  setAttribute(state, 'title', job.reason);
  setText(name.children[0], job.name);
  setText(name.children[1], job.id);
  setProgress(progress.children[0], share(job.progress), `Progress of ${job.id}`);
  setText(progress.children[1], progressText(job));
  setText(loss, decimal(job.progress?.loss));
  const live = job.state === 'RUNNING';
  setText(speed, live ? rate(job.progress?.images_per_second) : DASH);
  setText(left, live ? duration(job.progress?.seconds_left) : tookText(job));
  setText(accuracy, job.validation.length
    ? job.validation.map((result) => (job.validation.length > 1 ? `${result.set} ` : '') +
                                     percent(result.accuracy)).join(' · ')
    : DASH);
  setText(submitted, age(job.submitted_ms, now));
}

function progressText(job) {
  if (!job.progress?.total_steps) return job.state === 'PENDING' ? 'waits for free slots' : DASH;
  return `${count(job.progress.step)} / ${count(job.progress.total_steps)}`;
}

function tookText(job) {
  if (job.ended_ms === null || job.started_ms === null) return DASH;
  return `took ${duration((job.ended_ms - job.started_ms) / 1000)}`;
}
