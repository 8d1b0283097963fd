"""Tokens as an identity provider signs them (RS256, 2048 bits), and the public key in each form that is asked for."""

import base64
import json
import pathlib
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://id.example.org"
AUDIENCE = "bench"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """An identity provider's key."""

    def __init__(self, folder):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public = pathlib.Path(folder) / "token.pem"
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public.write_bytes(self.key.public_key().public_bytes(serialization.Encoding.PEM, form))
        self.public.chmod(0o644)

    def jwks(self):
        n = encode(self.key.public_key().public_numbers().n.to_bytes(256, "big"))
        return json.dumps({"keys": [{"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "n": n, "e": "AQAB"}]})

    def sign(self, message):
        return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())

    def token(self, subject, **changes):
        head = {"alg": "RS256", "typ": "JWT", "kid": "k1"}
        now = int(time.time())
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 36000, "scope": "orders:read"}
        signed = ".".join(encode(json.dumps(part).encode()) for part in (head, {**body, **changes}))
        return f"{signed}.{encode(self.sign(signed.encode()))}"

    def forged(self):
        """Well made, but signed by nobody who is known."""
        signed, _ = self.token("mallory").rsplit(".", 1)
        return f"{signed}.{encode(bytes(255) + b'1')}"


# nginx: what is run for each request. The key is read each time, as nothing lives longer than a request there.
NJS = """const DER = Buffer.from('%s', 'base64');
const KIND = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
async function check(r) {
  let status = 401;
  try {
    const parts = r.headersIn['Authorization'].split(' ')[1].split('.');
    const head = JSON.parse(Buffer.from(parts[0], 'base64url').toString());
    if (head.alg === 'RS256' && parts.length === 3) {
      const key = await crypto.subtle.importKey('spki', DER, KIND, false, ['verify']);
      const good = await crypto.subtle.verify(KIND, key, Buffer.from(parts[2], 'base64url'), parts[0] + '.' + parts[1]);
      const body = JSON.parse(Buffer.from(parts[1], 'base64url').toString());
      if (good && body.exp > Date.now() / 1000 && body.iss === '%s' && body.aud === '%s') status = 204;
    }
  } catch (e) {
    status = 401;
  }
  r.return(status);
}
export default { check };
"""


def njs(signer):
    der = "".join(line for line in signer.public.read_text().splitlines() if not line.startswith("-"))
    return NJS % (der, ISSUER, AUDIENCE)


# wrk: each request carries the next token. What is sent is made beforehand.
LUA = """local requests, turn = {}, 0
function init(args)
  for token in io.lines('%s') do
    requests[#requests + 1] = wrk.format('GET', nil, { Authorization = 'Bearer ' .. token })
  end
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
"""


def script(folder, name, tokens):
    """A script for wrk that sends these by turns."""
    listed, path = pathlib.Path(folder) / f"{name}.txt", pathlib.Path(folder) / f"{name}.lua"
    listed.write_text("".join(f"{token}\n" for token in tokens))
    path.write_text(LUA % listed)
    return path
