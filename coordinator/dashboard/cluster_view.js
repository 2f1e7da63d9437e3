// Nodes and users: what there is, and who has it.
import {get} from '/api.js';
import {element, reconcile, setText} from '/dom.js';
import {age, bytes, count, DASH, duration} from '/format.js';
import {setState, stateBadge} from '/parts.js';

const NODE_COLUMNS = ['State', 'Node', 'Slots', 'GPUs', 'Memory set aside', 'Labels', 'Jobs', 'Seen'];
const USER_COLUMNS = ['User', 'Running', 'Waiting', 'Workers', 'Share', 'Slot time used lately'];

// One of NODE_WORDS in parts.js.
export function nodeState(node) {
  if (node.drained) return 'DRAINED';
  if (node.cordoned) return 'CORDONED';
  return node.liveness;
}

function why(node) {
  return node.drained?.reason ?? node.cordoned?.reason ?? node.liveness_reason;
}

// "8 x NVIDIA H100 80GB HBM3"; of several models, each with its number.
function gpuModels(node) {
  const numbers = new Map();
  for (const {model} of node.gpu_list) numbers.set(model, (numbers.get(model) ?? 0) + 1);
  return [...numbers].map(([model, number]) => `${number} x ${model}`).join(', ');
}

function table(caption, columns) {
  const rows = element('tbody');
  return {rows, node: element('div', {class: 'scroll'}, element('table', {},
    element('caption', {class: 'hidden-text'}, caption),
    element('thead', {}, element('tr', {},
      ...columns.map((name) => element('th', {scope: 'col'}, name)))), rows))};
}

function card(title, content) {
  return element('section', {class: 'card', 'aria-label': title, 'data-card': title.toLowerCase()},
                 element('header', {}, element('h3', {}, title)), content);
}

export class ClusterView {
  constructor() {
    this.title = 'Cluster';
    this.nodes = table('Nodes', NODE_COLUMNS);
    this.users = table('Users', USER_COLUMNS);
    this.node = element('div', {class: 'page'}, element('h1', {}, 'Cluster'),
                        card('Nodes', this.nodes.node), card('Users', this.users.node));
  }

  async refresh(signal) {
    const [{nodes}, {users}] = await Promise.all([
      get('/nodes', {}, signal), get('/users', {}, signal)]);
    reconcile(this.nodes.rows, nodes, (node) => node.name, makeNodeRow,
              (row, node) => updateNodeRow(row, node, Date.now()));
    reconcile(this.users.rows, users, (user) => user.name,
              () => element('tr', {}, ...USER_COLUMNS.map(() => element('td'))), updateUserRow);
  }

  destroy() {}
}

function makeNodeRow() {
  return element('tr', {}, element('td', {}, stateBadge()),
    element('td', {}, element('span'), element('div', {class: 'why'})), element('td'),
    element('td', {}, element('span'), element('div', {class: 'why'})),
    ...NODE_COLUMNS.slice(4).map(() => element('td')));
}

function updateNodeRow(row, node, now) {
  const [state, name, slots, gpus, memory, labels, jobs, seen] = row.children;
  setState(state.firstElementChild, nodeState(node));
  setText(name.children[0], node.name);
  setText(name.children[1], why(node));
  setText(slots, `${node.slots_used} of ${node.slots}`);
  setText(gpus.children[0], node.gpus ? `${node.gpus_used} of ${node.gpus}` : DASH);
  setText(gpus.children[1], gpuModels(node));
  setText(memory, node.memory_bytes
    ? `${bytes(node.memory_reserved_bytes)} of ${bytes(node.memory_bytes)}`
    : bytes(node.memory_reserved_bytes));
  setText(labels, [node.group, ...node.labels].filter(Boolean).join(', ') || DASH);
  reconcile(jobs, node.job_ids, (id) => id,
    (id) => element('a', {href: `#/jobs/${encodeURIComponent(id)}`, class: 'job-link'}, `${id} `),
    () => {});
  setText(seen, age(node.last_seen_ms, now));
}

function updateUserRow(row, user) {
  const of = (value, limit) => (limit ? `${count(value)} of ${count(limit)}` : count(value));
  const texts = [user.name, count(user.jobs_running), count(user.jobs_waiting),
                 of(user.workers, user.max_workers), String(user.share),
                 user.slot_seconds >= 1 ? duration(user.slot_seconds) : DASH];
  [...row.children].forEach((cell, index) => setText(cell, texts[index]));
}
