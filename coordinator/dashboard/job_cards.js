// The cards below a job's curves.
import {get, jobPath} from '/api.js';
import {element, reconcile, setAttribute, setText} from '/dom.js';
import {age, bytes, clockTime, count, percent} from '/format.js';
import {hasEnded, setState, stateBadge} from '/parts.js';

function card(title, ...content) {
  const note = element('span', {class: 'note'});
  return {note, node: element('section', {class: 'card', 'aria-label': title},
                              element('header', {}, element('h3', {}, title), note), ...content)};
}

export class TransitionsCard {
  constructor() {
    this.list = element('ol', {class: 'timeline'});
    ({node: this.node} = card('History', this.list));
  }

  update(transitions) {
    const entries = transitions.map((transition, index) => ({...transition, index}));
    reconcile(this.list, entries, (entry) => entry.index,
      (entry) => element('li', {'data-state': entry.to}, stateBadge(),
                         element('time', {datetime: new Date(entry.time_ms).toISOString()}),
                         element('p')),
      (node, entry) => {
        const [badge, time, reason] = node.children;
        setState(badge, entry.to);
        setText(time, clockTime(entry.time_ms));
        setText(reason, entry.reason);
      });
  }
}

export class CheckpointsCard {
  constructor() {
    this.rows = element('tbody');
    this.table = element('table', {},
      element('thead', {}, element('tr', {},
        ...['Step', 'Accuracy', 'Size', 'Age'].map((name) => element('th', {scope: 'col'}, name)))),
      this.rows);
    this.empty = element('p', {class: 'empty'});
    ({node: this.node, note: this.note} =
      card('Checkpoints', element('div', {class: 'scroll'}, this.table), this.empty));
    this.node.dataset.card = 'checkpoints';
  }

  update(checkpoints, job) {
    this.table.hidden = checkpoints.length === 0;
    this.empty.hidden = checkpoints.length > 0;
    const {every} = job.spec.checkpoint;
    setText(this.empty, hasEnded(job.state) ? 'This job left none.'
      : every ? `The first is written at step ${count(every)}.` : 'One is written at the end.');
    setText(this.note, checkpoints.length ? `the latest ${job.spec.checkpoint.keep} are kept` +
      (job.spec.checkpoint.keep_best ? `, the best on ${job.spec.checkpoint.keep_best}` : '') +
      ', and what is pinned' : '');
    reconcile(this.rows, [...checkpoints].reverse(), (checkpoint) => checkpoint.step,
      () => element('tr', {}, ...Array.from({length: 4}, () => element('td'))),
      (row, checkpoint) => {
        const [step, accuracy, size, written] = row.children;
        setText(step, count(checkpoint.step) + (checkpoint.pinned ? ' · pinned' : ''));
        setText(accuracy, checkpoint.validation
          .map((result) => `${result.set} ${percent(result.accuracy)}`).join(', ') || '–');
        setText(size, bytes(checkpoint.bytes));
        written.dataset.time = checkpoint.created_ms;
        setAttribute(row, 'title', checkpoint.directory);
      });
    this.updateAges(Date.now());
  }

  updateAges(now) {
    for (const row of this.rows.children) {
      setText(row.lastElementChild, age(Number(row.lastElementChild.dataset.time), now));
    }
  }
}

export class ShardsCard {
  constructor() {
    this.bar = element('div', {class: 'shards', role: 'img'});
    this.rows = element('tbody');
    this.table = element('table', {},
      element('thead', {}, element('tr', {},
        ...['Rank', 'Node', 'First identity', 'Last identity', 'Identities', 'Size'].map(
          (name) => element('th', {scope: 'col'}, name)))),
      this.rows);
    this.empty = element('p', {class: 'empty'});
    ({node: this.node, note: this.note} =
      card('Identity shards', this.bar, element('div', {class: 'scroll'}, this.table), this.empty));
    this.node.dataset.card = 'shards';
  }

  update(plans, job) {
    const plan = plans.at(-1);
    setText(this.empty, hasEnded(job.state) ? 'This job ended before its workers had read the data set.'
      : 'Made once the workers have read the data set and know its number of identities.');
    for (const node of [this.bar, this.table]) node.hidden = !plan;
    this.empty.hidden = Boolean(plan);
    if (!plan) return;
    const earlier = plans.slice(0, -1).map((one) => one.ranges.length);
    setText(this.note, `${count(plan.num_identities)} identities, plan ${plan.generation}` +
      (earlier.length ? `; earlier ones of ${earlier.join(', ')} ranks` : ''));
    setAttribute(this.bar, 'aria-label',
      plan.ranges.map((range) => `rank ${range.rank}: ${count(range.size)} identities`).join('; '));
    const byRank = (range) => range.rank;
    reconcile(this.bar, plan.ranges, byRank, () => element('i'), (node, range) => {
      node.style.flexGrow = range.size;
      setText(node, plan.ranges.length <= 16 && range.size ? String(range.rank) : '');
      node.title = `rank ${range.rank}: [${count(range.begin)}, ${count(range.end)})`;
    });
    reconcile(this.rows, plan.ranges, byRank,
      () => element('tr', {}, ...Array.from({length: 6}, () => element('td'))),
      (row, range) => {
        const texts = [range.rank, range.node ?? '–', range.size ? count(range.begin) : '–',
                       range.size ? count(range.end - 1) : '–', count(range.size),
                       bytes(range.bytes)];
        [...row.children].forEach((cell, index) => setText(cell, String(texts[index])));
      });
    // Where ranks run is known while they do.
    const hasNodes = plan.ranges.some((range) => range.node);
    for (const row of this.table.querySelectorAll('tr')) row.children[1].hidden = !hasNodes;
  }
}

// The end of the log: of what was there when the page was opened, and all that came since.
const FIRST_BYTES = 32768;
const KEPT_CHARACTERS = 400000;

export class LogCard {
  constructor(id) {
    this.id = id;
    this.attempt = null;
    this.offset = null;
    this.text = element('pre', {class: 'log', tabindex: '0', 'aria-label': 'Log of the workers'});
    ({node: this.node, note: this.note} = card('Log', this.text));
    this.node.dataset.card = 'log';
  }

  // Whether the log has ended and all of it is here.
  async refresh(job, signal) {
    if (job.attempt === 0) {
      setText(this.text, 'Nothing yet: the job has not been started.');
      return hasEnded(job.state);
    }
    if (job.attempt !== this.attempt) {
      this.attempt = job.attempt;
      this.offset = -FIRST_BYTES;
      setText(this.text, '');
    }
    const answer = await get(jobPath(this.id, '/logs'),
                             {attempt: this.attempt, offset: this.offset}, signal);
    const more = answer.next_offset > this.offset && answer.text !== '';
    this.offset = answer.next_offset;
    this.append(answer.text);
    setText(this.note, `attempt ${this.attempt}`);
    return answer.job_ended && !more;
  }

  // Follows the end, unless somebody has scrolled up to read.
  append(text) {
    if (!text) return;
    const atEnd = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 30;
    let all = this.text.textContent + text;
    if (all.length > KEPT_CHARACTERS) all = all.slice(all.indexOf('\n', all.length - KEPT_CHARACTERS) + 1);
    this.text.textContent = all;
    if (atEnd) this.text.scrollTop = this.text.scrollHeight;
  }
}
