// The page: an image goes in, its mask is shown. This file joins the parts; each does one thing.

import { Access } from "./access.js";
import { Intake } from "./intake.js";
import { Legend } from "./legend.js";
import { decodeMask, paintMask } from "./mask.js";
import { showFacts, showModelLine, showNoModel } from "./model.js";
import { busy, cancelled, clearProblem, hide, say, tell } from "./notices.js";
import { agrees, asAnswered, drawnSize, readPicture } from "./picture.js";
import { pixelInWords, placeInWords, resultInWords, sizeInWords, timingInWords } from "./words.js";
import { askMask, askModel, askPicture, hasDocs, patiently } from "./service.js";
import { Stage } from "./stage.js";
import { Wipe } from "./wipe.js";

const $ = (id) => document.getElementById(id);
const UPLOAD_ATTEMPTS = 6;
const MODEL_ATTEMPTS = Infinity; // a model may be converted for minutes

let model = null;
let job = null; // the image at hand: {file, name, count, image, stop, answer, text, ids, confidence}
let asking = null; // ends what is asked about the model
let failed = false; // whether the model could not be had, and the page says so

const stage = new Stage($("canvas"), { onRead: showPixel, onZoom: showZoom, onLine: (at) => wipe.place(at) });
const wipe = new Wipe(stage, { handle: $("wipe-handle"), range: $("wipe"), value: $("wipe-value") });
const legend = new Legend($("classes"), refresh);
const access = new Access($("access"), $("key-form"), $("key"), tryKey);

// ---- the model

async function loadModel() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  try {
    const onWait = (refusal) => say(`${refusal.message}; the page asks again by itself.`);
    model = await patiently(() => askModel(signal), { signal, attempts: MODEL_ATTEMPTS, onWait });
    showModelLine(model);
    showFacts(model);
    const tried = access.accepted();
    $("limits").textContent = `, up to ${sizeInWords(model.limits)}`;
    if (failed) clearProblem();
    failed = false;
    if (!job || (tried && job.answer)) say(`Ready: ${model.name}.`);
  } catch (error) {
    if (signal.aborted) return;
    failed = true;
    model = null;
    showNoModel(error.status === 401 ? "shown once a key is given" : "not known");
    report(error, loadModel);
  }
}

function tryKey(key) {
  clearProblem();
  if (key === null) {
    tell(Object.assign(new Error("a key is made of visible ASCII characters."), { title: "This is no API key" }), null);
    return;
  }
  say(key ? "Trying the key…" : "No key is used from now on.");
  loadModel();
  if (job && !job.answer) take(job.file, job.name, job.count); // it was refused for want of the key
}

// ---- an image

// `count` is the number of files that it was the first of.
async function take(file, name, count) {
  job?.stop.abort();
  const mine = { file, name, count, stop: new AbortController() };
  job = mine;
  clearProblem();
  busy(true, "Reading the image…");
  try {
    refuseTooLarge(file);
    // A copy, since what is sent again for the downloads must be the same bytes.
    mine.image = new Blob([await file.arrayBuffer()], { type: file.type });
    mine.picture = await readPicture(mine.image);
    if (mine !== job) return;
    preview(mine);
    await segment(mine);
  } catch (error) {
    if (mine === job) fail(mine, error, () => take(file, name, count));
  } finally {
    if (mine === job) busy(false);
  }
}

function refuseTooLarge(file) {
  const most = model?.limits.max_body_bytes;
  if (!most || file.size <= most) return;
  throw Object.assign(
    new Error(`it has ${file.size} bytes, and the service takes at most ${most}; save it smaller, or compress it more.`),
    { title: "The file is too large", final: true },
  );
}

function preview({ name, count, picture }) {
  delete document.body.dataset.shown;
  hide($("result"));
  wipe.enable(false);
  $("file-name").textContent = $("file-name").title = name;
  $("file-size").textContent = picture ? placeInWords(picture, count) : "";
  if (!picture) return;
  showWork(true);
  stage.show(picture);
}

async function segment(mine) {
  say("Segmenting…");
  const { signal } = mine.stop;
  const onWait = (refusal) => say(`${refusal.title}: ${refusal.message}. The page tries again by itself.`);
  const asked = () => askMask(mine.image, signal);
  const { answer, text, timing } = await patiently(asked, { signal, attempts: UPLOAD_ATTEMPTS, onWait });
  const picture = await asAnswered(mine.picture, answer.image);
  const { ids, confidence } = await decodeMask(answer);
  if (mine !== job) return;
  Object.assign(mine, { answer, text, ids, confidence, picture });
  showWork(true);
  stage.show(picture);
  showResult(mine, timing);
  await repaint(mine);
  if (mine !== job) return;
  document.body.dataset.shown = "mask";
  say(resultInWords(answer, agrees(picture), picture.bitmap !== null, mine.count));
  if (model?.digest !== answer.model.digest) loadModel(); // it was changed since the page asked
}

function showResult({ answer, count }, timing) {
  legend.show(answer);
  const found = new Set(answer.classes.map((entry) => entry.id));
  const absent = model?.digest === answer.model.digest ? model.taxonomy.classes.filter(({ id }) => !found.has(id)) : [];
  $("absent").hidden = !absent.length;
  $("absent").textContent = `Not in this image: ${absent.map(({ name }) => name).join(", ")}`;
  $("file-size").textContent = placeInWords(answer.image, count);
  $("timing").textContent = timingInWords(timing);
  $("result").hidden = false;
  wipe.enable(true);
}

// The mask in the colours of the classes that are ticked; of several calls the last one counts.
let painting = 0;

async function repaint(mine) {
  const turn = ++painting;
  const { width, height } = mine.answer.image;
  try {
    const bitmap = await paintMask(mine.answer.classes, legend.shown(), ...drawnSize(width, height));
    if (mine === job && turn === painting) stage.setMask(bitmap);
    else bitmap.close();
  } catch (error) {
    if (mine === job && turn === painting) throw error;
  }
}

function refresh() {
  repaint(job).catch((error) => tell(error, null));
}

function fail(mine, error, again) {
  if (mine.stop.signal.aborted) {
    showWork(mine.picture != null);
    cancelled(again);
    return;
  }
  if (!mine.picture) showWork(false);
  report(error, error.final || [413, 415, 422].includes(error.status) ? null : again);
}

// ---- downloads

async function save(what, query, suffix) {
  const mine = job;
  clearProblem();
  busy(true, `Asking for the ${what}…`);
  const { signal } = (mine.stop = new AbortController());
  const onWait = (refusal) => say(`${refusal.title}: ${refusal.message}. The page tries again by itself.`);
  try {
    const asked = () => askPicture(mine.image, query, signal);
    hand(await patiently(asked, { signal, attempts: UPLOAD_ATTEMPTS, onWait }), mine.name, suffix);
    say(`The ${what} is downloaded.`);
  } catch (error) {
    if (signal.aborted) cancelled(null);
    else report(error, () => save(what, query, suffix));
  } finally {
    if (mine === job) busy(false);
  }
}

function hand(blob, name, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/\.[^.]*$/, "") + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may ask the user where to first
}

function overlayQuery() {
  const shown = legend.shown();
  const query = { render: "overlay", opacity: shown.size ? stage.opacity : 0 };
  return shown.size && !legend.isWhole() ? { ...query, classes: [...shown].sort((a, b) => a - b).join(",") } : query;
}

// ---- what is shown

// A problem is told; one of the key opens the field for it, where a new one makes the page ask again.
function report(error, again) {
  const wantsKey = error.status === 401;
  tell(error, wantsKey ? null : again);
  if (wantsKey) access.ask();
}

function showWork(is) {
  const [shown, hidden] = is ? [$("work"), $("start")] : [$("start"), $("work")];
  shown.hidden = false;
  hide(hidden);
  $("stage-help").hidden = !is;
  if (!is) {
    hide($("result"));
    delete document.body.dataset.shown;
  }
}

function showPixel(at) {
  const words = at ? pixelInWords(at, job) : "Point at the image to read it";
  $("readout").replaceChildren(...[words].flat());
  if (at?.spoken) $("spoken").textContent = $("readout").textContent;
}

function showZoom(scale, fits) {
  $("zoom").textContent = `${scale < 0.1 ? (100 * scale).toFixed(1) : Math.round(100 * scale)} %`;
  if ($("work").contains(document.activeElement)) $("spoken").textContent = `Zoom ${$("zoom").textContent}`;
  $("zoom-fit").ariaPressed = String(fits);
  $("zoom-full").ariaPressed = String(scale === 1);
}

// ---- wiring

const intake = new Intake($("file"), $("drop-hint"), take);
for (const id of ["choose", "another"]) $(id).addEventListener("click", () => intake.choose());
$("example").addEventListener("click", () => intake.fetchExample().catch((error) => tell(error, null)));
$("cancel").addEventListener("click", () => job?.stop.abort(new DOMException("cancelled", "AbortError")));

$("opacity").addEventListener("input", ({ target }) => {
  stage.opacity = target.value / 100;
  $("opacity-value").textContent = `${target.value} %`;
  stage.draw();
});
for (const [id, checked] of [["all", true], ["none", false]]) {
  $(id).addEventListener("click", () => {
    legend.setAll(checked);
    refresh();
  });
}
$("zoom-in").addEventListener("click", () => stage.zoomBy(1));
$("zoom-out").addEventListener("click", () => stage.zoomBy(-1));
$("zoom-fit").addEventListener("click", () => stage.fit());
$("zoom-full").addEventListener("click", () => stage.zoomTo(1));

$("save-mask").addEventListener("click", () => save("mask", null, "_mask.png"));
$("save-overlay").addEventListener("click", () => save("overlay", overlayQuery(), "_overlay.png"));
$("save-json").addEventListener("click", () => {
  hand(new Blob([job.text], { type: "application/json" }), job.name, ".json");
  say("The JSON is downloaded.");
});

stage.opacity = $("opacity").value / 100;
loadModel();
hasDocs().then((has) => ($("docs").hidden = !has));
