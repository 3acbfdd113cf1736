// All pages: times in the reader's own zone, buttons that call the REST API, and parts that change.
import { follow } from "./live.js";
import { showTimes } from "./times.js";
import { listen } from "./actions.js";
import { startRun } from "./run.js";
import { startLog } from "./log.js";
import { startSignIn } from "./sign_in.js";

showTimes(document);
setInterval(() => showTimes(document), 1000);
listen();
startSignIn();
const steps = startRun();
const log = startLog();
follow(() => {
  showTimes(document);
  steps?.onChange();
  log?.onChange();
});
