import assert from 'node:assert/strict';
import { Validator } from '@seriousme/openapi-schema-validator';
import { onBothBackEnds, open } from './example.js';

onBothBackEnds('the API is tried on its page', 'openapi', [], async ({ url }) => {
  const page = await open(`${url}/docs`);
  assert.equal(page.url(), `${url}/docs/`);
  await page.locator('h1', { hasText: 'Books' }).waitFor();
  const operations = page.locator('.opblock-summary-method');
  assert.deepEqual(await operations.allTextContents(), ['GET', 'POST', 'GET', 'PUT', 'DELETE']);
  const add = page.locator('#operations-books-add');
  await add.click();
  await add.getByText('Try it out').click();
  await add.locator('textarea').fill('{ "title": "Orlando", "author": "Virginia Woolf", "year": 1928 }');
  await add.getByText('Execute').click();
  await add.locator('.live-responses-table').getByText('201', { exact: true }).waitFor();
  const answer = await add.locator('.live-responses-table .response-col_description code').first().textContent();
  assert.deepEqual(JSON.parse(answer), { id: 4, title: 'Orlando', author: 'Virginia Woolf', year: 1928 });
  // Nothing of the page was stopped by the strict policy, and nothing came from elsewhere.
  assert.deepEqual(page.complaints, []);
  const loaded = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name));
  assert.ok(loaded.length > 4 && loaded.every((name) => name.startsWith(url)), loaded);
});

onBothBackEnds('the links of the pages lead where they say', 'openapi', [], async ({ url }) => {
  const page = await open(url);
  await page.click('text=The Left Hand of Darkness');
  await page.getByRole('heading', { name: 'The Left Hand of Darkness' }).waitFor();
  assert.equal(page.url(), `${url}/books/2`);
  await page.click('text=As JSON');
  const book = { id: 2, title: 'The Left Hand of Darkness', author: 'Ursula K. Le Guin', year: 1969 };
  assert.deepEqual(JSON.parse(await page.textContent('body')), book);
  await page.goBack();
  await page.click('text=All books');
  assert.equal(page.url(), `${url}/`);
  await page.click('text=The API');
  await page.locator('h1', { hasText: 'Books' }).waitFor();
  assert.deepEqual(page.complaints, []);
});

onBothBackEnds('the description is valid, and what it says is so', 'openapi', [], async ({ url }) => {
  const response = await fetch(`${url}/openapi.json`);
  const description = await response.json();
  const { valid, errors } = await new Validator().validate(structuredClone(description));
  assert.ok(valid, JSON.stringify(errors));
  for (const [path, operations] of Object.entries(description.paths)) {
    for (const method of Object.keys(operations).filter((name) => name !== 'parameters')) {
      // Books 7, 8 and so on are not there: what is described is answered all the same, and as it says.
      const { status, headers } = await fetch(url + path.replace('{id}', '7'), { method: method.toUpperCase() });
      const { responses } = operations[method];
      const described = responses[status] ?? responses[`${String(status)[0]}XX`];
      assert.ok(described, `${method} ${path} is answered with ${status}`);
      assert.ok(headers.get('content-type') in described.content, `${method} ${path}: ${headers.get('content-type')}`);
    }
  }
  const book = { title: '', author: 'Nobody', year: 2000 };
  const headers = { 'content-type': 'application/json' };
  const refused = await fetch(`${url}/api/books`, { method: 'POST', headers, body: JSON.stringify(book) });
  assert.deepEqual(await refused.json(), { status: 422, title: 'the title has 1 to 200 characters' });
});
