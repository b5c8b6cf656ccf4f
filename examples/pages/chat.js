const room = decodeURIComponent(location.hash.slice(1)) || 'lobby';
const socket = new WebSocket(location.origin.replace('http', 'ws') + '/rooms/' + encodeURIComponent(room));
const state = document.getElementById('state');
const said = document.getElementById('said');
const text = document.getElementById('text');

socket.onopen = () => state.textContent = `you are in ${room}; add #name to the address for another room`;
socket.onclose = () => state.textContent = 'the connection is closed; reload to come back';
socket.onmessage = (event) => {
  // textContent, never innerHTML: what others say is text.
  said.appendChild(document.createElement('li')).textContent = event.data;
};
document.getElementById('say').onsubmit = (event) => {
  event.preventDefault();
  if (text.value && socket.readyState === WebSocket.OPEN) socket.send(text.value);
  text.value = '';
};
addEventListener('hashchange', () => location.reload());
