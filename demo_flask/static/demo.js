"use strict";

// Going back may bring a page out of the browser's memory, no-store or not, from before the session was ended: ask.
addEventListener("pageshow", (event) => event.persisted && location.reload());

// Send a form several times in the same moment, as several tabs would.
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
    clock.textContent = left ? parts.join(":") : "over: click anywhere";
  };
  tick();
  setInterval(tick, 1000);
}

// Socket.IO, as far as a counter needs it: "0" opens, "40" connects, "2" is a ping and "3" its pong,
// "421[...]" is event number 1, "431[...]" its answer.
const counter = document.querySelector("#counter");
if (counter) {
  const [count, state] = ["#count", "#socket"].map((id) => document.querySelector(id));
  const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/socket.io/?EIO=4&transport=websocket`);
  const show = (text, ready) => {
    state.textContent = text;
    counter.disabled = !ready;
  };
  socket.onmessage = ({ data }) => {
    if (data.startsWith("0")) socket.send("40");
    if (data === "2") socket.send("3");
    if (data.startsWith("40")) show("connected", true);
    if (data.startsWith("431")) {
      const [answer] = JSON.parse(data.slice(3));
      if (answer === undefined) show("This session has ended.", false);
      else count.value = answer;
    }
  };
  socket.onclose = () => show("disconnected: load the page again", false);
  counter.addEventListener("click", () => socket.send('421["count"]'));
}
