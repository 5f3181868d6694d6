"use strict";

// The back button can show a page from the browser's memory, despite no-store, from before the session ended: reload it.
addEventListener("pageshow", (event) => event.persisted && location.reload());

// Send a form several times at the same moment, as several tabs would.
for (const form of document.querySelectorAll("form[data-at-once]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.querySelector("button").disabled = true;
    const send = () => fetch(form.action, { method: "POST", body: new FormData(form), redirect: "manual" });
    await Promise.all(Array.from({ length: Number(form.dataset.atOnce) }, send));
    location.reload();
  });
}

// Count down to a moment on the server's clock.
for (const clock of document.querySelectorAll("time[data-until]")) {
  const tick = () => {
    const left = Math.max(0, Math.round(clock.dataset.until - Date.now() / 1000));
    const parts = [left / 3600, (left / 60) % 60, left % 60].map((part) => String(Math.floor(part)).padStart(2, "0"));
    clock.textContent = left ? parts.join(":") : "expired: click anywhere";
  };
  tick();
  setInterval(tick, 1000);
}

// Socket.IO, as far as a counter needs it: "0" opens, "40" connects, "2" is a ping and "3" its pong,
// "421[...]" is event number 1 and "431[...]" its answer; number 2 asks every two seconds whether the session still exists.
const counter = document.querySelector("#counter");
if (counter) {
  const [count, state] = ["#count", "#socket"].map((id) => document.querySelector(id));
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket`);
  let watch, ended = false;
  const end = () => {
    ended = true;
    clearInterval(watch);
    show("This session has ended. Sign in again to continue.", false);
    socket.close();
  };
  const show = (text, ready) => {
    state.textContent = text;
    counter.disabled = !ready;
  };
  socket.onmessage = ({ data }) => {
    if (data.startsWith("0")) socket.send("40");
    if (data === "2") socket.send("3");
    if (data.startsWith("40")) {
      show("connected", true);
      watch = setInterval(() => socket.send('422["alive"]'), 2000);
    }
    if (data.startsWith("431")) {
      const [answer] = JSON.parse(data.slice(3));
      if (answer === undefined) end();
      else count.value = answer;
    }
    if (data === "432[false]") end();
  };
  socket.onclose = () => {
    clearInterval(watch);
    if (!ended) show("disconnected: reload the page", false);
  };
  counter.addEventListener("click", () => socket.send('421["count"]'));
}
