// The list of jobs, latest first: all, or those of a user or in a state.
import {get} from '/api.js';
import {element, reconcile, setAttribute, setText} from '/dom.js';
import {age, count, decimal, DASH, duration, percent, rate, share} from '/format.js';
import {progressBar, setProgress, setState, stateBadge, stateWord, STATES, waits} from '/parts.js';

const COLUMNS = ['State', 'Job', 'User', 'Progress', 'Loss', 'Images/s', 'Time left', 'Accuracy',
                 'Submitted'];
const PAGE = 100;

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
    this.none = element('p', {class: 'empty', hidden: 'hidden'}, 'No job is like that.');
    this.shown = PAGE;
    this.more = element('button', {class: 'more', type: 'button', hidden: 'hidden'},
                        'Show earlier jobs');
    this.more.addEventListener('click', () => { this.shown += PAGE; this.refreshSoon(); });
    this.node = element('div', {class: 'page'},
      element('div', {class: 'title-line'}, element('h1', {}, 'Jobs'), this.summary),
      this.makeFilters(), this.table, this.none, this.empty, this.more);
    this.title = 'Jobs';
  }

  makeFilters() {
    this.state = element('select', {id: 'filter-state'}, element('option', {value: ''}, 'any'),
      ...STATES.map((state) => element('option', {value: state}, stateWord(state))));
    this.user = element('select', {id: 'filter-user'}, element('option', {value: ''}, 'anybody'));
    for (const filter of [this.state, this.user]) {
      filter.addEventListener('change', () => this.refreshSoon());
    }
    this.filters = element('div', {class: 'filters'}, element('label', {}, 'State', this.state),
                           element('label', {}, 'User', this.user));
    return this.filters;
  }

  // The list as it is asked for now, without waiting for the next poll.
  refreshSoon() {
    this.refresh(this.signal).catch(() => {});  // the next poll says what is wrong
  }

  async refresh(signal) {
    this.signal = signal;
    const asked = {limit: this.shown};
    if (this.state.value) asked.state = this.state.value;
    if (this.user.value) asked.user = this.user.value;
    const [{jobs, more, counts}, {users}] = await Promise.all([
      get('/jobs', asked, signal), get('/users', {}, signal)]);
    const now = Date.now();
    const all = Object.values(counts).reduce((sum, one) => sum + one, 0);
    this.table.hidden = jobs.length === 0;
    this.empty.hidden = all > 0;
    this.filters.hidden = all === 0;
    this.none.hidden = jobs.length > 0 || all === 0;
    this.more.hidden = !more;
    this.showUsers(users.map((user) => user.name));
    setText(this.summary, summaryText(counts, all));
    reconcile(this.rows, jobs, (job) => job.id, makeRow, (row, job) => updateRow(row, job, now));
  }

  // One that is chosen stays, even when none of its jobs is left.
  showUsers(names) {
    const chosen = this.user.value;
    const known = chosen && !names.includes(chosen) ? [...names, chosen] : names;
    reconcile(this.user, ['', ...known], (name) => `user:${name}`,
      (name) => element('option', {value: name}, name || 'anybody'), () => {});
    this.user.value = chosen;
  }

  destroy() {}
}

function summaryText(counts, all) {
  if (!all) return '';
  const waiting = STATES.filter(waits).reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  return `${count(all)} in all · ${count(counts.RUNNING ?? 0)} running · ${count(waiting)} waiting`;
}

function makeRow(job) {
  const cell = (label, ...content) => element('td', {'data-label': label}, ...content);
  return element('tr', {},
    cell('State', stateBadge()),
    cell('Job', element('a', {class: 'job-link', href: `#/jobs/${encodeURIComponent(job.id)}`}),
         element('span', {class: 'id'})),
    cell('User'),
    cell('Progress', progressBar(), element('span', {class: 'small'})),
    ...COLUMNS.slice(4).map((label) => cell(label)));
}

function updateRow(row, job, now) {
  const [state, name, user, progress, loss, speed, left, accuracy, submitted] = row.children;
  setAttribute(row, 'data-state', job.state);
  setState(state.firstElementChild, job.state);
  setAttribute(state, 'title', job.reason);
  setText(name.children[0], job.name);
  setText(name.children[1], job.id);
  setText(user, job.owner);
  setProgress(progress.children[0], share(job.progress), `Progress of ${job.id}`);
  setText(progress.children[1], progressText(job));
  setAttribute(progress, 'title', job.reason);
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
  const place = job.queue_position ? `number ${job.queue_position} in the queue` : 'waits';
  if (!job.progress?.total_steps) return waits(job.state) ? place : DASH;
  const steps = `${count(job.progress.step)} / ${count(job.progress.total_steps)}`;
  if (waits(job.state)) return `${steps} · ${place}`;
  const fewer = job.workers_now && job.workers_now < job.workers;
  return fewer ? `${steps} · ${job.workers_now} of ${job.workers} workers` : steps;
}

function tookText(job) {
  if (job.ended_ms === null || job.started_ms === null) return DASH;
  return `took ${duration((job.ended_ms - job.started_ms) / 1000)}`;
}
