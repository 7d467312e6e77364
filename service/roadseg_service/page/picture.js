// Reads an image file as the service sees it: the EXIF orientation applied, in every format.

// Browsers differ in whose EXIF they heed. Each of these is 2 x 1 px with orientation 6, so 1 x 2 where it is heeded.
const PROBES = {
  JPEG:
    "/9j/4AAQSkZJRgABAQAAAQABAAD/4QAiRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAD/2wBDAP//////////////////////////////" +
    "////////////////////////////////////////////////////////wAALCAABAAIBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQ" +
    "AAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AN//Z",
  PNG:
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAGmVYSWZNTQAqAAAACAABARIAAwAAAAEABgAAAAAAANZnS2kAAAALSURBVHicY2Bg" +
    "AAAAAwABuK06YwAAAABJRU5ErkJggg==",
  WEBP:
    "UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAAcQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAA" +
    "AAA=",
};

// What draws a stored raster as it is displayed: a canvas transform in units of the stored width and height.
const TRANSFORMS = {
  2: (width) => [-1, 0, 0, 1, width, 0],
  3: (width, height) => [-1, 0, 0, -1, width, height],
  4: (width, height) => [1, 0, 0, -1, 0, height],
  5: () => [0, 1, 1, 0, 0, 0],
  6: (width, height) => [0, 1, -1, 0, height, 0],
  7: (width, height) => [0, -1, -1, 0, height, width],
  8: (width) => [0, -1, 1, 0, 0, width],
};

const MOST_DRAWN_PIXELS = 16_777_216; // what every browser's canvas takes; larger images are drawn smaller

/** The file as the browser shows it: {bitmap, width, height}; null where it cannot. */
export async function readPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
  return bounded({ bitmap, width: bitmap.width, height: bitmap.height });
}

/** The picture as the service displays it, which `image` of its answer describes: {bitmap, width, height}. */
export async function asAnswered(picture, image) {
  const { width, height, format, exif_orientation: orientation } = image;
  if (!picture) return { bitmap: null, width, height };
  const stored = orientation !== 1 && !(await heeds(format));
  return { bitmap: stored ? turned(picture.bitmap, orientation) : picture.bitmap, width, height };
}

/** Whether the browser's picture has the size that the service found; if not, the mask lies beside what is seen. */
export function agrees({ bitmap, width, height }) {
  const [drawnWidth, drawnHeight] = drawnSize(width, height);
  return !bitmap || (bitmap.width === drawnWidth && bitmap.height === drawnHeight);
}

/** The size that a picture of this size is drawn at. */
export function drawnSize(width, height) {
  const scale = Math.min(1, Math.sqrt(MOST_DRAWN_PIXELS / (width * height)));
  return [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
}

async function bounded(picture) {
  const [resizeWidth, resizeHeight] = drawnSize(picture.width, picture.height);
  if (resizeWidth === picture.width) return picture;
  const smaller = await createImageBitmap(picture.bitmap, { resizeWidth, resizeHeight, resizeQuality: "medium" });
  picture.bitmap.close();
  return { ...picture, bitmap: smaller };
}

async function heeds(format) {
  const bytes = Uint8Array.from(atob(PROBES[format]), (character) => character.charCodeAt(0));
  const probe = await createImageBitmap(new Blob([bytes], { type: `image/${format.toLowerCase()}` }));
  return probe.height === 2;
}

function turned(bitmap, orientation) {
  const sides = [bitmap.width, bitmap.height];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = orientation >= 5 ? sides.toReversed() : sides;
  const context = canvas.getContext("2d");
  context.setTransform(...TRANSFORMS[orientation](...sides));
  context.drawImage(bitmap, 0, 0);
  return canvas;
}
