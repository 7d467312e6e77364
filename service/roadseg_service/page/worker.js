// Decodes masks and paints them, beside the thread that answers the user.

import { readGreyPng } from "./grey_png.js";
import { classIds } from "./rle.js";

let mask = null; // {ids, width, height}

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function decode({ classes, width, height, nothing, plane }) {
  mask = null;
  const ids = classIds(classes, width, height, nothing);
  const confidence = plane ? await readGreyPng(bytesOf(plane), width, height) : null;
  mask = { ids: ids.slice(), width, height }; // the page gets the other copy, to read single pixels
  const given = [ids.buffer];
  if (confidence) given.push(confidence.buffer);
  return [{ ids, confidence }, given];
}

// The mask at the size that it is drawn at, each id in its colour: `colours` is RGBA for each of 256 ids.
async function paint({ colours, drawnWidth, drawnHeight }) {
  const { ids, width, height } = mask;
  const table = new Uint32Array(colours.buffer);
  const picture = new ImageData(drawnWidth, drawnHeight);
  const pixels = new Uint32Array(picture.data.buffer);
  const from = Int32Array.from({ length: drawnWidth }, (_, x) => Math.floor(((x + 0.5) * width) / drawnWidth));
  for (let y = 0, to = 0; y < drawnHeight; y++) {
    const row = Math.floor(((y + 0.5) * height) / drawnHeight) * width;
    for (let x = 0; x < drawnWidth; x++) pixels[to++] = table[ids[row + from[x]]];
  }
  const bitmap = await createImageBitmap(picture);
  return [{ bitmap }, [bitmap]];
}

const TASKS = { decode, paint };

self.addEventListener("message", async ({ data: { number, task, values } }) => {
  try {
    const [result, given] = await TASKS[task](values);
    self.postMessage({ number, result }, given);
  } catch (error) {
    self.postMessage({ number, error: error.message });
  }
});
