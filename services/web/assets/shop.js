// The storefront: a basket that stays in the browser, and orders that stay in the service.
const API = "/api/v1/orders";
const PAGE = 5;
const byId = (id) => document.getElementById(id);

// --- saying things ---------------------------------------------------------

const money = (amount, currency) => {
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
};

function toast(text, bad = false) {
  // Good news replaces older good news; bad news stays to be read.
  for (const old of byId("toasts").querySelectorAll(".toast:not(.bad)")) old.remove();
  const note = element("p", { className: bad ? "toast bad" : "toast", textContent: text });
  byId("toasts").append(note);
  setTimeout(() => note.remove(), bad ? 9000 : 4500);
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// --- asking the service ----------------------------------------------------

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The shop answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }
}

// Also works where the page is not served securely, unlike crypto.randomUUID.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Asks up to three times. Every request is safe to repeat: reads are, and writes carry an idempotency key.
async function ask(path, { method = "GET", headers = {}, body } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    let failure;
    try {
      const response = await fetch(path, {
        method,
        headers: body ? { ...headers, "content-type": "application/json" } : headers,
        body,
        cache: "no-store",
        signal: AbortSignal.timeout?.(8000),
      });
      showVersion(response.headers.get("x-platform-version"));
      const json = (response.headers.get("content-type") || "").includes("json");
      const answer = json ? await response.json() : {};
      if (response.ok && json) return answer;
      failure = new Refused(response.status, answer);
      if (response.status < 500 && response.status !== 429) throw failure;
    } catch (error) {
      if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
      failure = error instanceof Refused ? error : new Error("The shop cannot be reached right now.");
    }
    if (attempt === 3) throw failure;
    await pause(250 * 2 ** attempt * (0.5 + Math.random()));
  }
}

function showVersion(version) {
  if (!version) return;
  const place = byId("answered");
  place.querySelector("code").textContent = version;
  place.hidden = false;
}

// --- the basket ------------------------------------------------------------

const goods = new Map(
  [...document.querySelectorAll("[data-sku]")].map(({ dataset }) => [
    dataset.sku,
    { sku: dataset.sku, name: dataset.name, price: Number(dataset.price), currency: dataset.currency },
  ]),
);

const basket = new Map(stored().filter(([sku, quantity]) => goods.has(sku) && quantity > 0));
// One key for one basket: pressing the button twice is one order, changing the basket makes another.
let orderKey = newKey();

function stored() {
  try {
    return Object.entries(JSON.parse(localStorage.getItem("basket")) ?? {});
  } catch {
    return [];
  }
}

function put(sku, quantity) {
  if (quantity > 0) basket.set(sku, Math.min(quantity, 99));
  else basket.delete(sku);
  orderKey = newKey();
  try {
    localStorage.setItem("basket", JSON.stringify(Object.fromEntries(basket)));
  } catch {
    // Private windows may refuse; the basket then lives as long as the page.
  }
  showBasket();
}

function showBasket() {
  let count = 0;
  let total = 0;
  let currency = "EUR";
  const lines = [...basket].map(([sku, quantity]) => {
    const good = goods.get(sku);
    count += quantity;
    total += quantity * good.price;
    currency = good.currency;
    const step = (label, sign, change) => {
      const button = element("button", { type: "button", textContent: sign, ariaLabel: `${label} ${good.name}` });
      button.addEventListener("click", () => {
        put(sku, quantity + change);
        // The list was drawn anew; keep the keyboard where it was.
        const again = [...byId("basket-lines").querySelectorAll("button")];
        (again.find((other) => other.ariaLabel === button.ariaLabel) ?? byId("basket-title")).focus();
      });
      return button;
    };
    return element("li", {},
      element("span", { textContent: good.name }),
      element("span", { className: "price", textContent: money(quantity * good.price, good.currency) }),
      element("div", { className: "stepper" },
        step("One less of", "−", -1),
        element("output", { textContent: quantity }),
        step("One more of", "+", 1)));
  });
  byId("basket-lines").replaceChildren(...lines);
  byId("basket-total").textContent = money(total, currency);
  byId("basket-count").textContent = count;
  byId("basket-empty").hidden = count > 0;
  byId("checkout").hidden = count === 0;
}

function fieldError(text) {
  const place = byId("customer-error");
  place.textContent = text;
  place.hidden = !text;
  byId("customer").setAttribute("aria-invalid", text ? "true" : "false");
}

async function place(event) {
  event.preventDefault();
  const customer = byId("customer").value.trim();
  fieldError(customer ? "" : "Please tell us your name.");
  if (!customer) return byId("customer").focus();
  const items = [...basket].map(([sku, quantity]) => {
    const { name, price } = goods.get(sku);
    return { sku, name, quantity, unit_price: price };
  });
  const { currency } = goods.get(items[0].sku);
  const button = byId("place");
  button.disabled = true;
  button.textContent = "Placing…";
  try {
    const order = await ask(API, {
      method: "POST",
      headers: { "idempotency-key": orderKey },
      body: JSON.stringify({ customer, currency, items, note: byId("note").value.trim() }),
    });
    basket.clear();
    put("", 0);
    byId("note").value = "";
    showOrder(order, { fresh: true });
    toast(`Thank you, ${order.customer}. Your order is placed.`);
  } catch (error) {
    const wrong = error.problem?.errors ?? [];
    const name = wrong.find(({ pointer }) => pointer === "/customer");
    if (name) fieldError(`Your name ${name.detail}.`);
    if (error instanceof Refused && error.status < 500) {
      // Definitely not placed: what is sent next is another request.
      orderKey = newKey();
      toast(`Not placed. ${[error.message, ...wrong.map(({ detail }) => detail)].join(" – ")}`, true);
    } else {
      // It may have arrived and only the answer was lost; the key makes another try the same order.
      toast("The shop did not answer. Press the button again: it stays one order.", true);
    }
  } finally {
    button.disabled = false;
    button.textContent = "Place order";
  }
}

// --- the orders ------------------------------------------------------------

const list = byId("order-list");
let nextCursor = null;

function showOrder(order, { fresh = false, atEnd = false } = {}) {
  const cancelled = order.status === "cancelled";
  const row = element("li", { id: `order-${order.id}`, className: `order ${order.status}${fresh ? " fresh" : ""}` });
  const placed = element("time", { dateTime: order.created_at, textContent: when(order.created_at) });
  row.append(
    element("h3", {}, order.customer, element("span", { className: `pill ${order.status}`, textContent: cancelled ? "Cancelled" : "Placed" })),
    element("p", { className: "price", textContent: money(order.total.amount, order.total.currency) }),
    element("p", { className: "what" },
      order.items.map(({ quantity, name, sku }) => `${quantity} × ${name || sku}`).join(", "), " · ", placed),
  );
  if (!cancelled) {
    const button = element("button", { type: "button", className: "danger", textContent: "Cancel", ariaLabel: `Cancel the order of ${order.customer}` });
    button.addEventListener("click", () => cancel(order, button));
    row.append(element("div", { className: "act" }, button));
  }
  const known = byId(row.id);
  if (known) known.replaceWith(row);
  else if (atEnd) list.append(row);
  else list.prepend(row);
  sayHowMany();
  return row;
}

const when = (text) => new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));

function sayHowMany(text) {
  const state = byId("orders-state");
  state.textContent = text ?? (list.children.length ? "" : "No orders yet. Yours could be the first.");
  state.hidden = !state.textContent;
}

function showPage(page, atStart) {
  if (atStart) list.replaceChildren();
  for (const order of page.items) showOrder(order, { atEnd: true });
  nextCursor = page.next_cursor;
  byId("more").hidden = !nextCursor;
  sayHowMany();
}

async function load(cursor) {
  const buttons = [byId("more"), byId("refresh")];
  for (const button of buttons) button.disabled = true;
  try {
    const query = new URLSearchParams({ limit: PAGE, ...(cursor ? { cursor } : {}) });
    showPage(await ask(`${API}?${query}`), !cursor);
  } catch (error) {
    if (list.children.length) toast(error.message, true);
    else sayHowMany(`${error.message} The goods are still here; try “Refresh” in a moment.`);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function cancel(order, button) {
  button.disabled = true;
  button.textContent = "Cancelling…";
  button.dataset.key ??= newKey();
  try {
    showOrder(await ask(`${API}/${order.id}/cancel`, {
      method: "POST",
      headers: { "if-match": `"${order.version}"`, "idempotency-key": button.dataset.key },
    }));
    byId("orders-title").focus();
    toast("The order is cancelled.");
  } catch (error) {
    button.disabled = false;
    button.textContent = "Cancel";
    if (error.status === 412 || error.status === 409) {
      toast("The order has changed meanwhile. This is how it stands now.", true);
      await ask(`${API}/${order.id}`).then(showOrder, () => {});
    } else toast(`Not cancelled. ${error.message}`, true);
  }
}

// --- start -----------------------------------------------------------------

for (const button of document.querySelectorAll("[data-sku]")) {
  button.addEventListener("click", () => {
    put(button.dataset.sku, (basket.get(button.dataset.sku) ?? 0) + 1);
    toast(`${button.dataset.name} is in your basket.`);
  });
}
byId("basket-title").tabIndex = -1;
byId("orders-title").tabIndex = -1;
byId("checkout").addEventListener("submit", place);
byId("customer").addEventListener("input", () => fieldError(""));
byId("more").addEventListener("click", () => load(nextCursor));
byId("refresh").addEventListener("click", () => load());
showBasket();
const first = JSON.parse(byId("first-page").textContent);
if (first) showPage(first, true);
else load();
