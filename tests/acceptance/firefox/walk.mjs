// Logs in at a narrow width, waits for a job to end on its page, and walks pages: node walk.mjs URL KEY JOB PATHS...
// Prints a JSON object: what was seen, and what must not have happened.
import puppeteer from "puppeteer-core";

const [firefox, url, key, job, ...paths] = process.argv.slice(2);
const faults = [];
const seen = {};
const browser = await puppeteer.launch({ browser: "firefox", executablePath: firefox, headless: true });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  await page.setViewport({ width: 360, height: 800 }).catch((error) => {
    // Sets size and orientation; Firefox 140 knows only the first. Widths above 360 are found below.
    if (!error.message.includes("setScreenOrientationOverride")) throw error;
  });
  page.on("console", (said) => said.type() === "error" && faults.push(`console: ${said.text()}`));
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob|about):/.test(request.url())) faults.push(`asked ${request.url()}`);
  });
  await page.goto(`${url}/jobs/${job}`);
  await page.type("input[type=password]", key);
  await Promise.all([page.waitForNavigation(), page.click("button.primary")]);
  await page.waitForSelector("::-p-text(complete)"); // nobody reloads the page
  for (const path of paths) {
    const answer = await page.goto(url + path);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    seen[path] = { status: answer.status(), title: await page.title(), width };
  }
  await page.goto(url + paths[0]);
  await page.waitForSelector(".card img");
  await page.$eval(".card img", (image) => image.scrollIntoView());
  seen.picture = await page.$eval(
    ".card img",
    (image) =>
      new Promise((done) => {
        const loaded = () => done(image.naturalWidth);
        if (image.complete && image.naturalWidth) loaded();
        else image.addEventListener("load", loaded);
      }),
  );
  seen.bars = await page.$$eval(".histogram canvas", (found) => found.length);
} finally {
  await browser.close();
}
console.log(JSON.stringify({ seen, faults }));
