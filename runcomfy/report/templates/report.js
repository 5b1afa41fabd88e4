// A click on a poster puts a player in its place; nothing of the file is asked for before. Without this, the link opens it.
// A video element plays a sound too, and shows its waveform, the poster, meanwhile.
"use strict";
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.play");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const picture = link.querySelector("img");
  const video = document.createElement("video");
  Object.assign(video, { controls: true, autoplay: true, playsInline: true, src: link.href });
  if (picture) video.poster = picture.src;
  video.setAttribute("aria-label", link.dataset.title);
  video.addEventListener("error", () => {
    const trouble = video.closest(".card").querySelector(".trouble");
    const focused = document.activeElement === video;
    video.replaceWith(link);
    if (focused) link.focus();
    trouble.textContent = trouble.dataset.text;
    trouble.hidden = false;
  });
  link.replaceWith(video);
  video.focus();
});
