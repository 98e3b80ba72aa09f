// The app's script.  Python draws every mark; here pages come alive: panels are fetched, a type is dragged, jobs are followed.
import { start as startPage } from "./page.js";
import { start as startLive } from "./live.js";
import { start as startTable } from "./table.js";
import { start as startBracket } from "./bracket.js";
import { start as startDrop } from "./drop.js";
import { start as startKeys } from "./keys.js";
import { start as startTheme } from "./theme.js";

document.documentElement.classList.add("has-script");
startTheme();
startPage();
startTable();
startBracket();
startDrop();
startKeys();
startLive();
document.documentElement.dataset.ready = "yes";
