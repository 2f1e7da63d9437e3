// Chooses the view by the address's hash, polls for it, and says whether the coordinator answers.
import {ApiError, get, Unreachable} from '/api.js';
import {ClusterView, nodeState} from '/cluster_view.js';
import {element, reconcile, setText} from '/dom.js';
import {duration} from '/format.js';
import {JobView} from '/job_view.js';
import {JobsView} from '/jobs_view.js';
import {stateWord} from '/parts.js';

const POLL_MS = 2000;
const NODES_SHOWN = 4;

const main = document.getElementById('main');
const banner = document.getElementById('banner');
const bannerCause = document.getElementById('banner-cause');
const bannerAge = document.getElementById('banner-age');
const link = document.getElementById('link');
const nodes = document.getElementById('nodes');

let view = null;
let leave = new AbortController();  // ends the polling of the view that is left
let lastAnswerMs = null;
let failing = false;

function viewOf(hash) {
  if (hash === '#/cluster') return new ClusterView();
  const job = /^#\/jobs\/([^/]+)$/.exec(hash);
  if (!job) return new JobsView();
  try {
    return new JobView(decodeURIComponent(job[1]));
  } catch {
    return new JobView(job[1]);  // not a valid escape: the API will say that there is no such job
  }
}

async function poll(current, signal) {
  while (!signal.aborted) {
    try {
      await Promise.all([current.refresh(signal), refreshNodes(signal)]);
      if (signal.aborted) return;
      answered();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status === 404) {
        answered();
        showMissing(error.message);
        return;
      }
      unanswered(error);
      // A mistake of this page itself: for whoever opens the console.
      if (!(error instanceof ApiError || error instanceof Unreachable)) console.error(error);
    }
    document.title = `${current.title} – Face recognition training`;
    await new Promise((resume) => {
      const timer = setTimeout(resume, POLL_MS);
      signal.addEventListener('abort', () => { clearTimeout(timer); resume(); }, {once: true});
    });
  }
}

function answered() {
  lastAnswerMs = Date.now();
  failing = false;
  setText(bannerCause, '');
  showConnection();
}

function unanswered(error) {
  failing = true;
  setText(bannerCause, error instanceof Unreachable
    ? 'The coordinator cannot be reached.'
    : `This page has a problem: ${error.message}.`);
  showConnection();
}

// The age stands outside of what a screen reader announces: it changes every second.
function showConnection() {
  document.body.classList.toggle('stale', failing);
  link.dataset.live = String(lastAnswerMs !== null && !failing);
  if (failing) setText(link, 'Not connected');
  else if (lastAnswerMs !== null) setText(link, 'Live');
  banner.hidden = !failing;
  const shown = lastAnswerMs === null
    ? 'Nothing has been received yet.'
    : `What you see is ${duration((Date.now() - lastAnswerMs) / 1000)} old.`;
  setText(bannerAge, `${shown} Trying again every ${POLL_MS / 1000} s; running jobs go on meanwhile.`);
}

// More nodes than the head of the page has room for, as one. Its state is that of one that is not up.
function asOne(all) {
  const sum = (key) => all.reduce((total, node) => total + node[key], 0);
  const other = all.find((node) => nodeState(node) !== 'UP') ?? all[0];
  return {...other, name: `${all.length} nodes`, slots: sum('slots'), slots_used: sum('slots_used'),
          job_ids: [...new Set(all.flatMap((node) => node.job_ids))]};
}

async function refreshNodes(signal) {
  const all = (await get('/nodes', {}, signal)).nodes;
  reconcile(nodes, all.length > NODES_SHOWN ? [asOne(all)] : all, (node) => node.name,
    () => element('li', {}, element('span', {class: 'name'}),
                  element('span', {class: 'slots', 'aria-hidden': 'true'}),
                  element('span', {class: 'used'})),
    (item, node) => {
      const [name, slots, used] = item.children;
      item.dataset.state = nodeState(node);
      setText(name, node.name);
      setText(used, `${node.slots_used} of ${node.slots} slots in use`);
      item.title = `${stateWord(nodeState(node))}; ` +
        (node.job_ids.length ? `runs ${node.job_ids.join(', ')}` : 'idle');
      // One square a slot, as long as they can be told apart.
      const squares = node.slots <= 16 ? node.slots : 0;
      while (slots.children.length < squares) slots.append(element('i'));
      while (slots.children.length > squares) slots.lastElementChild.remove();
      [...slots.children].forEach((square, index) => {
        square.classList.toggle('busy', index < node.slots_used);
      });
    });
}

function showMissing(message) {
  view.destroy();
  main.replaceChildren(element('div', {class: 'card nothing'},
    element('h1', {}, 'Not found'), element('p', {}, message),
    element('p', {}, element('a', {href: '#/'}, 'All jobs'))));
  document.title = 'Not found – Face recognition training';
}

function navigate() {
  leave.abort();
  leave = new AbortController();
  const first = view === null;
  view?.destroy();
  view = viewOf(location.hash);
  main.replaceChildren(view.node);
  if (!first) {
    window.scrollTo(0, 0);
    main.focus({preventScroll: true});
  }
  poll(view, leave.signal);
}

// The link in the page must not change the hash, which names the view.
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener('hashchange', navigate);
setInterval(showConnection, 1000);
navigate();
