// An OpenID provider on loopback, for tests and for the example `oidc_login`: whoever comes may log in under any name.
//
// node server.js <redirect URI> <post-logout redirect URI> <back-channel logout URI> <JWK Set of the client "signer">
//
// What is left out is that of the example. The environment variable PORT names a port; without it, it is a free one.
// Prints its issuer identifier on the first line, and ends when its standard input does.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [
  redirectUri = 'https://127.0.0.1:8080/oidc/callback',
  postLogoutRedirectUri = 'https://127.0.0.1:8080/',
  backchannelLogoutUri = 'https://127.0.0.1:8080/oidc/backchannel-logout',
  signerJwks = '{"keys":[]}',
] = process.argv.slice(2);

const key = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: alg,
});

const client = (client_id, rest) => ({
  client_id,
  redirect_uris: [redirectUri],
  post_logout_redirect_uris: [postLogoutRedirectUri],
  grant_types: ['authorization_code', 'refresh_token'],
  backchannel_logout_uri: backchannelLogoutUri,
  backchannel_logout_session_required: true,
  ...rest,
});

const configuration = {
  clients: [
    client('shop', { client_secret: 'a secret & more' }),
    client('signer', { token_endpoint_auth_method: 'private_key_jwt', jwks: JSON.parse(signerJwks) }),
  ],
  jwks: { keys: [key('rsa', { modulusLength: 2048 }, 'RS256'), key('ec', { namedCurve: 'P-256' }, 'ES256')] },
  cookies: { keys: ['only for tests'] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  // Without the dispatcher that refuses loopback addresses, where the tests listen.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'roles'], email: ['email'] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.org`, roles: ['editor'] }),
  }),
  features: {
    backchannelLogout: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        audience: resource,
        scope: 'articles:read articles:write',
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
};

const server = createServer();
server.listen(process.env.PORT ?? 0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on('request', new Provider(issuer, configuration).callback());
  console.log(issuer);
});
process.stdin.resume().on('end', () => process.exit());
