use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::SystemTime,
};

/// The folder of the workspace.
///
/// # Panics
/// Never in a workspace laid out like this one.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate has a workspace")
}

/// The `quorate` program, built from the present sources.
///
/// It lies beside the test program, where `cargo test --workspace` has put it. If it is not there or
/// not up to date, as when only this crate's tests were asked for, it is built here. `QUORATE_BIN`
/// names another one.
///
/// # Panics
/// If it cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match env::var_os("QUORATE_BIN") {
        Some(path) => path.into(),
        None => built(),
    })
}

fn built() -> PathBuf {
    let test = env::current_exe().expect("a test program has a file");
    let folder = test.parent().expect("a file lies in a folder");
    // Cargo keeps programs in <target>/<profile>, and tests in its folder deps.
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    let profile = profile.expect("cargo keeps tests in <target>/<profile>/deps");
    let program = profile.join("quorate");
    if !is_fresh(&program) {
        build(profile);
    }
    program
}

fn build(profile: &Path) {
    let target = profile.parent().expect("a profile lies in a target folder");
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--package", "quorate", "--profile", name, "--target-dir"])
        .arg(target)
        .current_dir(root())
        .stdin(Stdio::null())
        .status()
        .expect("cargo runs");
    assert!(status.success(), "quorate does not build");
}

/// Whether `program` is at least as new as every file it was built from, by cargo's list of them.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let Some(built) = modified(program) else { return false };
    let Ok(list) = fs::read_to_string(program.with_extension("d")) else { return false };
    let Some((_, sources)) = list.trim_end().split_once(": ") else { return false };
    let sources = sources.replace("\\ ", "\0");
    let is_older = |source: &str| {
        let changed: Option<SystemTime> = modified(Path::new(&source.replace('\0', " ")));
        changed.is_some_and(|changed| changed <= built)
    };
    sources.split(' ').all(is_older)
}

/// What a program that has ended left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs `quorate` with these arguments in the workspace's folder until it ends.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run(args: &[&str]) -> Finished {
    run_in(root(), args, &[])
}

/// Runs `quorate` in a folder with some environment variables until it ends.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run_in(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(program());
    command.args(args).current_dir(folder).envs(env.iter().copied()).stdin(Stdio::null());
    command.output().expect("quorate starts").into()
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}
