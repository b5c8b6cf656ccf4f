const form = document.getElementById('form');
const list = document.getElementById('list');
const progress = document.getElementById('progress');
const percent = document.getElementById('percent');

form.onsubmit = (event) => {
  event.preventDefault();
  // fetch does not tell how much of a body it has sent.
  const request = new XMLHttpRequest();
  request.upload.onprogress = ({ loaded, total }) => {
    progress.value = loaded / total;
    percent.textContent = `${Math.floor(100 * progress.value)} %`;
  };
  request.onload = () => {
    const lines = request.status === 200
      ? JSON.parse(request.responseText).map(({ name, bytes }) => `${name}: ${bytes} bytes`)
      : [`${request.status} ${request.responseText}`];
    list.replaceChildren(...lines.map((line) => {
      const item = document.createElement('li');
      item.textContent = line;
      return item;
    }));
  };
  request.onerror = () => percent.textContent = 'the connection broke';
  request.open('POST', form.action);
  request.send(new FormData(form));
};
