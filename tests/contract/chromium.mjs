// The browser of this machine. CHROMIUM names it if it is not on the PATH.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

function installed() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = process.env.PATH.split(delimiter);
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const found = names.flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
  assert.ok(found, "Chromium is missing: `apt-get install chromium`, or name it with CHROMIUM=/path/to/it");
  return found;
}

export function launch() {
  return chromium.launch({
    executablePath: installed(),
    args: ["--disable-gpu", "--disable-quic", "--disable-component-update"],
  });
}
