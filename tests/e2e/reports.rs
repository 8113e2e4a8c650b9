//! HTML reports, looked at in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pointsman_tests::engine::pointsman;
use pointsman_tests::process;

/// A page that stands alone is drawn in light and in dark: both lines of every plot can be seen, on the ground that the scheme asks for, and
/// nothing is filled black (axes once were, which no text of the page betrays).
#[test]
fn a_report_is_drawn_in_light_and_dark() -> Result<()> {
    let Some(browser) = Browser::find() else {
        let reason = "no chromium here: apt-get install chromium";
        assert!(std::env::var_os("POINTSMAN_REQUIRE_BROWSER").is_none(), "{reason}");
        println!("SKIPPED: {reason}");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let (scenario, page) = (folder.path().join("sim.yaml"), folder.path().join("report.html"));
    std::fs::write(&scenario, SCENARIO)?;
    let (scenario, html) = (scenario.display().to_string(), page.display().to_string());
    pointsman(["policy", "sim", "maglev", "--vs", "two-choices", "-f", &scenario, "--seeds", "2", "--seed", "7", "--html", &html])?;
    let text = std::fs::read_to_string(&page)?;
    stands_alone(&text)?;

    let dom = browser.dom(&page)?;
    ensure!(dom.matches("<figure>").count() == 4 && dom.contains("in-flight-gap"), "the browser made something else of it:\n{dom}");
    // The plots alone, so that what is counted are their pixels.
    let table = text.find("<h2>Measured").zip(text.find("<h2>Plots")).context("no table or no plots")?;
    std::fs::write(&page, format!("{}{}", &text[..table.0], &text[table.1..]))?;
    for scheme in SCHEMES {
        let picture = browser.picture(&page, scheme.setting)?;
        ensure!(picture.share(scheme.ground) > 0.1, "{}: the ground has another colour", scheme.name);
        for (colour, what) in [(scheme.lines[0], "the first line"), (scheme.lines[1], "the second line"), (scheme.text, "text")] {
            let pixels = picture.count(colour);
            ensure!(pixels > 800, "{}: {what} has {pixels} pixels of its colour", scheme.name);
        }
        ensure!(picture.share([0, 0, 0]) < 0.01, "{}: something is filled black", scheme.name);
    }
    Ok(())
}

/// Every plot there is: endpoints that queue, clients that return, endpoints that leave and join.
const SCENARIO: &str = "
duration: 20s
arrivals: {poisson: {per-second: 400}}
clients: {uniform: 1000}
service-time: {exponential: 20ms}
endpoints: [{count: 10, capacity: 2}]
events: [{at: 5s, rolling-restart: {every: 1s}}]
";

/// A colour scheme as the page has it, and as Chromium is told to prefer it.
struct Scheme {
    name: &'static str,
    setting: &'static str,
    ground: Colour,
    text: Colour,
    lines: [Colour; 2],
}

const SCHEMES: [Scheme; 2] = [
    Scheme {
        name: "light",
        setting: "--blink-settings=preferredColorScheme=1",
        ground: [0xff, 0xff, 0xff],
        text: [0x1c, 0x24, 0x30],
        lines: [[0x00, 0x69, 0xb4], [0xc2, 0x4e, 0x00]],
    },
    Scheme {
        name: "dark",
        setting: "--blink-settings=preferredColorScheme=0",
        ground: [0x12, 0x16, 0x1c],
        text: [0xe6, 0xea, 0xf0],
        lines: [[0x56, 0xb4, 0xe9], [0xff, 0x9a, 0x4d]],
    },
];

type Colour = [u8; 3];

/// Nothing in the page has the browser ask anybody for anything.
fn stands_alone(page: &str) -> Result<()> {
    for asks in ["http:", "https:", "//", "<script", "<link", "<img", "<iframe", "<object", "<embed", "@import", "url(", " src=", " href="]
    {
        ensure!(!page.contains(asks), "{asks:?} in the page");
    }
    ensure!(page.contains("Content-Security-Policy\" content=\"default-src 'none';"), "nothing forbids what was forgotten here");
    Ok(())
}

/// Chromium, without a window and without a way out of this machine.
struct Browser(PathBuf);

impl Browser {
    fn find() -> Option<Self> {
        let folders = std::env::var_os("PATH")?;
        std::env::split_paths(&folders).map(|folder| folder.join("chromium")).find(|path| path.is_file()).map(Self)
    }

    fn dom(&self, page: &Path) -> Result<String> {
        self.open(page, ["--dump-dom"])
    }

    fn picture(&self, page: &Path, setting: &str) -> Result<Picture> {
        let file = page.with_extension("png");
        self.open(page, [&format!("--screenshot={}", file.display()), setting, "--window-size=1200,1000", "--hide-scrollbars"])?;
        Picture::read(&file)
    }

    fn open<'a>(&self, page: &Path, options: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let profile = tempfile::tempdir()?;
        let mut command = Command::new(&self.0);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
        command.args(["--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).args(options).arg(format!("file://{}", page.display()));
        process::run(&mut command)
    }
}

/// Pixels.
struct Picture {
    pixels: Vec<Colour>,
}

impl Picture {
    fn read(file: &Path) -> Result<Self> {
        let mut reader = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file)?)).read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().context("a picture without a size")?];
        let frame = reader.next_frame(&mut bytes)?;
        let samples = frame.color_type.samples();
        ensure!(samples >= 3 && frame.bit_depth == png::BitDepth::Eight, "{:?} is no screenshot's colour", frame.color_type);
        let pixels = bytes[..frame.buffer_size()].chunks_exact(samples).map(|pixel| [pixel[0], pixel[1], pixel[2]]);
        Ok(Self { pixels: pixels.collect() })
    }

    /// Pixels of a colour, or very nearly.
    fn count(&self, colour: Colour) -> usize {
        let near = |pixel: &&Colour| pixel.iter().zip(colour).all(|(one, other)| one.abs_diff(other) <= 8);
        self.pixels.iter().filter(near).count()
    }

    fn share(&self, colour: Colour) -> f64 {
        self.count(colour) as f64 / self.pixels.len().max(1) as f64
    }
}
