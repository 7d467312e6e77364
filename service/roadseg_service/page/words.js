// Numbers and results in words.

import { isolated, percent } from "./legend.js";
import { NOTHING } from "./mask.js";

/** What an upload may be at most. */
export function sizeInWords({ max_body_bytes: bytes, max_pixels: pixels }) {
  const size = bytes >= 1 << 20 ? `${+(bytes / (1 << 20)).toFixed(1)} MiB` : `${bytes} bytes`;
  return `${size} and ${+(pixels / 1e6).toFixed(1)} megapixels`;
}

/** The size of the image at hand, and how many files it was the first of. */
export function placeInWords({ width, height }, count) {
  return `${width} × ${height} px${count > 1 ? `, the first of ${count} files` : ""}`;
}

/** The class and confidence at a pixel {x, y}, as nodes and text. */
export function pixelInWords({ x, y }, { answer, ids, confidence }) {
  const place = `x ${x}, y ${y}: `;
  if (!ids) return [`${place}no mask`];
  const at = y * answer.image.width + x;
  const entry = answer.classes.find(({ id }) => id === ids[at]);
  if (!entry || ids[at] === NOTHING) return [`${place}no class`];
  const sure = confidence ? `, confidence ${percent(confidence[at] * answer.confidence.scale, 0)}` : "";
  return [place, isolated(entry.name), sure];
}

/** A whole answer, for those who cannot see it, too. */
export function resultInWords({ image, classes }, agrees, visible, files) {
  const largest = classes.toSorted((a, b) => b.area_px - a.area_px).slice(0, 3);
  const shares = largest.map(({ name, share }) => `${name} ${percent(share)}`).join(", ");
  const first = files > 1 ? ` Of ${files} files only the first is segmented.` : "";
  const count = `${classes.length} ${classes.length === 1 ? "class" : "classes"}`;
  const found = `Segmented ${image.width} × ${image.height} pixels: ${count}${shares ? `; ${shares}` : ""}.${first}`;
  if (!visible) return `${found} This browser cannot show the image itself, so its mask is shown alone.`;
  if (agrees) return found;
  return `${found} This browser shows the image at another size than the service found: the mask may lie beside it.`;
}

/** A Server-Timing header: what the service spent its time on. */
export function timingInWords(header) {
  const phases = header.split(",").flatMap((part) => {
    const [name, ...parameters] = part.split(";").map((text) => text.trim());
    const spent = parameters.find((text) => text.startsWith("dur="));
    return name && spent ? [`${name} ${Math.round(Number(spent.slice(4)))} ms`] : [];
  });
  return phases.length ? `In the service: ${phases.join(", ")}` : "";
}

/** What the line between before and after, at so many percent of the picture, leaves on either side. */
export function wipeInWords(percentage) {
  if (percentage === 0) return "the mask everywhere";
  if (percentage === 100) return "the image alone everywhere";
  return `the image alone in the left ${percentage} %`;
}

/** Title and message of an error; what the service says of keys is for who writes a program, so that is said anew. */
export function refusalInWords(error, key) {
  if (error.status !== 401) return error;
  if (!key) {
    return {
      title: "An API key is needed",
      message: "enter yours in the field at the top of the page. Who runs this service gives them out.",
    };
  }
  return {
    title: "The API key was not accepted",
    message: "this service does not know it. See whether all of it was copied, or ask who runs the service for a new one.",
  };
}
