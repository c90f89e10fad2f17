// A service worker: answers from the network, and from what it has kept where there is none. conch-web keeps models itself.
const CACHE = "search-in-your-browser";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  const isOurs = origin === self.location.origin && request.method === "GET";
  // conch-web keeps a manifest itself, once it has all the files that it lists.
  const isModels = request.cache === "no-store" || pathname.endsWith("/conch.json");
  if (isOurs && !isModels) event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = isolated(await fetch(request));
    // Where there is no room left, the page works while there is a network.
    if (response.status === 200) await cache.put(request, response.clone()).catch(() => undefined);
    return response;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}

// Browsers give threads only to pages that are isolated from other origins; not every web server can be told these headers.
function isolated(response) {
  if (response.type === "error" || !response.status) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  const { status, statusText } = response;
  return new Response(status === 304 ? null : response.body, { status, statusText, headers });
}
