const list = document.getElementById('list');
const state = document.getElementById('state');

const events = new EventSource('/events');
events.onopen = () => state.textContent = 'connected';
// The browser connects again by itself, and says which event it has seen last.
events.onerror = () => state.textContent = 'connecting again';
events.onmessage = (event) => {
  const item = document.createElement('li');
  item.textContent = `${event.lastEventId}: ${event.data}`;
  list.prepend(item);
};
document.getElementById('form').onsubmit = (event) => {
  event.preventDefault();
  fetch('/messages', { method: 'POST', body: new URLSearchParams(new FormData(event.target)) });
  event.target.reset();
};
