//! Taler's configuration format, read so that an operator's `taler-merchant.conf` can be used as it is.
//!
//! It follows taler.conf(5) and GNUnet's parser: `[section]` and `KEY = VALUE` without regard to case, the
//! last value wins, `#` or `%` begins a comment line, a value wholly in `"` is taken verbatim without them,
//! `@inline@ FILE`, `@inline-matching@ GLOB` and `@inline-secret@ SECTION FILE` relative to the real folder
//! of the file they stand in, an unreadable secret being no error until one of its options is needed.
//! Variables are expanded in file names only, from `[PATHS]`, then the environment, recursively.
//!
//! Where we go beyond it, or the sources disagree:
//! - ` # comment` may follow a value, header or directive: white space, `#`, white space or the line's end.
//!   So `https://a/#b` and `Shop #1` stay whole; in quotes a `#` is text.
//! - `$NAME` ends where a shell would end it, not only at `/`; `${NAME:-text}` gives a default. An unknown
//!   variable is an error; GNUnet warns and keeps the dollar sign, which would make a file of that name.
//! - A relative file name is relative to the file that holds its option, not to where the program was
//!   started.
//! - `*` matches within the last part of a glob only, and never a leading dot.
//!
//! It knows no option's meaning, never writes, and its messages never quote a line: lines may hold passwords.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::expand::{MAX_PATH_BYTES, expand};

/// Most bytes of one file. A merchant's file has a few kilobytes, one with an exchange's denominations some
/// hundred; more is a wrong file name on the command line.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How deep files may inline files. Taler's own use two levels.
const MAX_INLINE_DEPTH: usize = 16;
/// Most files read in all, since files that inline two others each would multiply with every level.
const MAX_FILES: usize = 128;

/// A line of a configuration file, shown as `FILE:LINE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file's real, absolute path.
    pub file: Arc<Path>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// An option's value as written, without quotes and trailing comment, and where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// The text, variables not expanded.
    pub text: String,
    /// Where the option is set.
    pub at: Location,
}

/// Other programs' passwords stand in these files, so the text stays out of logs.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.at)
    }
}

/// Why a configuration cannot be read, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A file or folder cannot be read, or is too large.
    #[error("{}cannot read {}: {cause}; check the name and its permissions", prefix(.from.as_ref()), .file.display())]
    Read {
        /// The directive that names it; none for the file of the command line.
        from: Option<Location>,
        /// What cannot be read.
        file: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// A line is not UTF-8, or has a NUL.
    #[error("{0}: not UTF-8 text; save the file as UTF-8")]
    NotText(Location),
    /// A line is nothing that the format knows.
    #[error("{0}: neither [SECTION], KEY = VALUE, @DIRECTIVE@ nor a comment; correct it or put # before it")]
    Syntax(Location),
    /// A section header is malformed.
    #[error("{0}: malformed section header; write [NAME], without further brackets")]
    Header(Location),
    /// An option before any section.
    #[error("{0}: an option outside of any section; put its [SECTION] above it")]
    OutsideSection(Location),
    /// An unknown directive, or one without its arguments.
    #[error(
        "{0}: no such directive; write @inline@ FILE, @inline-matching@ FOLDER/*.conf or @inline-secret@ SECTION FILE"
    )]
    Directive(Location),
    /// A secret file that inlines others.
    #[error("{0}: a file read with @inline-secret@ must not inline others; put the options themselves here")]
    DirectiveInSecret(Location),
    /// A glob with `*` elsewhere than in its last part.
    #[error(
        "{0}: * may only stand in the last part of an @inline-matching@ pattern; name the folder in full"
    )]
    Glob(Location),
    /// A file that inlines itself, directly or through others.
    #[error("{at}: {} inlines itself through this line; remove it", .file.display())]
    Cycle {
        /// The directive that closes the circle.
        at: Location,
        /// The file that is being read already.
        file: PathBuf,
    },
    /// Files inlined too deep, or too many.
    #[error("{0}: inlined more than {MAX_INLINE_DEPTH} levels deep or {MAX_FILES} files in all; merge some")]
    TooManyInlined(Location),
    /// A variable that neither `[PATHS]` nor the environment has.
    #[error(
        "{at}: variable {name:?} is neither in [PATHS] nor (as UTF-8) in the environment; set it, or write ${{NAME:-default}}"
    )]
    UnknownVariable {
        /// The value that needs it.
        at: Location,
        /// Its name.
        name: String,
    },
    /// `${` without its `}`.
    #[error("{0}: ${{ without its }}; close it")]
    Unbalanced(Location),
    /// Variables that refer to each other, or a file name out of bounds.
    #[error(
        "{0}: its variables expand too deep (do they refer to each other?) or to more than {MAX_PATH_BYTES} bytes; \
         look at [PATHS] or write the path in full"
    )]
    Expansion(Location),
    /// A file name that is empty once expanded.
    #[error("{0}: the file name is empty; write one")]
    EmptyPath(Location),
}

fn prefix(from: Option<&Location>) -> String {
    from.map(|at| format!("{at}: ")).unwrap_or_default()
}

/// A section, from all files that have a part of it.
#[derive(Clone, Debug)]
pub struct Section {
    /// As spelled where it occurs first.
    pub name: String,
    /// Where it begins first.
    pub at: Location,
    /// By the key in upper case.
    pub options: BTreeMap<String, Value>,
    /// The file that should have held more of it and could not be read.
    pub unread_secret: Option<PathBuf>,
}

/// The sections and options of a file and of all that it inlines.
#[derive(Clone, Debug, Default)]
pub struct TalerConf {
    /// By the name in lower case.
    sections: BTreeMap<String, Section>,
}

impl TalerConf {
    /// Reads a file and what it inlines.
    pub fn load(path: &Path) -> Result<TalerConf, ConfError> {
        let mut loader = Loader {
            conf: TalerConf::default(),
            open: Vec::new(),
            files: 0,
        };
        loader.file(path, None, None)?;
        Ok(loader.conf)
    }

    /// The value of an option; both names without regard to case.
    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.section(section)?.options.get(&key.to_ascii_uppercase())
    }

    /// All sections, sorted without regard to case, each as it is spelled where it occurs first.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.values().map(|section| section.name.as_str())
    }

    /// A section by its name, without regard to case.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.get(&name.to_ascii_lowercase())
    }

    /// A value as a file name: variables and `~/` expanded, absolute.
    pub fn path(&self, value: &Value) -> Result<PathBuf, ConfError> {
        self.path_with(value, &|name| std::env::var(name).ok())
    }

    fn path_with(&self, value: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, ConfError> {
        let variable = |name: &str| {
            self.get("PATHS", name)
                .map(|found| found.text.clone())
                .or_else(|| env(name))
        };
        let text = expand(&value.text, &value.at, &variable)?;
        if text.is_empty() {
            return Err(ConfError::EmptyPath(value.at.clone()));
        }
        let path = match text.strip_prefix("~/") {
            None => PathBuf::from(text),
            Some(rest) => match env("HOME") {
                Some(home) => Path::new(&home).join(rest.trim_start_matches('/')),
                None => {
                    return Err(ConfError::UnknownVariable {
                        at: value.at.clone(),
                        name: "HOME".to_owned(),
                    });
                }
            },
        };
        Ok(value.at.file.with_file_name("").join(path))
    }

    fn open_section(&mut self, name: &str, at: &Location) -> &mut Section {
        self.sections
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| Section {
                name: name.to_owned(),
                at: at.clone(),
                options: BTreeMap::new(),
                unread_secret: None,
            })
    }
}

struct Loader {
    conf: TalerConf,
    /// The files being read, outermost first.
    open: Vec<Arc<Path>>,
    files: usize,
}

impl Loader {
    /// `only`: take this section's options and no others.
    fn file(&mut self, path: &Path, from: Option<&Location>, only: Option<&str>) -> Result<(), ConfError> {
        let exhausted = self.open.len() > MAX_INLINE_DEPTH || self.files >= MAX_FILES;
        if let Some(at) = from.filter(|_| exhausted) {
            return Err(ConfError::TooManyInlined(at.clone()));
        }
        self.files += 1;
        let failed = |cause| ConfError::Read {
            from: from.cloned(),
            file: path.to_owned(),
            cause,
        };
        let (file, bytes) = read(path).map_err(failed)?;
        if let Some(at) = from.filter(|_| self.open.contains(&file)) {
            return Err(ConfError::Cycle {
                at: at.clone(),
                file: file.to_path_buf(),
            });
        }
        self.open.push(Arc::clone(&file));
        self.lines(&bytes, &file, only)?;
        self.open.pop();
        Ok(())
    }

    fn lines(&mut self, bytes: &[u8], file: &Arc<Path>, only: Option<&str>) -> Result<(), ConfError> {
        // Some editors begin a file with a byte order mark; it is no part of the first line.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut section: Option<&str> = None;
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let at = Location {
                file: Arc::clone(file),
                line: index + 1,
            };
            let line = match std::str::from_utf8(line) {
                Ok(text) if !text.contains('\0') => trim(text),
                _ => return Err(ConfError::NotText(at)),
            };
            if line.is_empty() || line.starts_with(['#', '%']) {
                continue;
            }
            if let Some(directive) = line.strip_prefix('@') {
                if only.is_some() {
                    return Err(ConfError::DirectiveInSecret(at));
                }
                self.directive(directive, &at)?;
            } else if let Some(header) = line.strip_prefix('[') {
                let name = uncommented(header)
                    .strip_suffix(']')
                    .map(trim)
                    .unwrap_or_default();
                if !is_section_name(name) {
                    return Err(ConfError::Header(at));
                }
                section = Some(name);
                if only.is_none() {
                    self.conf.open_section(name, &at);
                }
            } else {
                let (key, raw) = match line.split_once('=') {
                    Some((key, raw)) if !trim(key).is_empty() => (trim(key).to_ascii_uppercase(), raw),
                    _ => return Err(ConfError::Syntax(at)),
                };
                let Some(name) = section else {
                    return Err(ConfError::OutsideSection(at));
                };
                if only.is_none_or(|only| only.eq_ignore_ascii_case(name)) {
                    let text = value_text(raw).to_owned();
                    self.conf
                        .open_section(name, &at)
                        .options
                        .insert(key, Value { text, at });
                }
            }
        }
        Ok(())
    }

    fn directive(&mut self, text: &str, at: &Location) -> Result<(), ConfError> {
        let (name, argument) = text.split_once('@').unwrap_or_default();
        let argument = uncommented(trim(argument));
        let folder = at.file.with_file_name("");
        match name.to_ascii_lowercase().as_str() {
            "inline" if !argument.is_empty() => self.file(&folder.join(argument), Some(at), None),
            "inline-matching" if !argument.is_empty() => matching_files(&folder.join(argument), at)?
                .iter()
                .try_for_each(|file| self.file(file, Some(at), None)),
            "inline-secret"
                if let Some((section, file)) = argument.split_once([' ', '\t'])
                    && is_section_name(section) =>
            {
                self.secret(section, &folder.join(trim(file)), at)
            }
            _ => Err(ConfError::Directive(at.clone())),
        }
    }

    fn secret(&mut self, section: &str, file: &Path, at: &Location) -> Result<(), ConfError> {
        self.conf.open_section(section, at);
        match self.file(file, Some(at), Some(section)) {
            // Each of Taler's programs may read the secrets of its own user only.
            Err(ConfError::Read { cause, .. })
                if matches!(
                    cause.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                self.conf.open_section(section, at).unread_secret = Some(file.to_owned());
                Ok(())
            }
            other => other,
        }
    }
}

/// Whether a header could give the name.
fn is_section_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['[', ']'])
}

/// The file's real path and its bytes.
fn read(path: &Path) -> io::Result<(Arc<Path>, Vec<u8>)> {
    let real = path.canonicalize()?;
    let mut bytes = Vec::new();
    File::open(&real)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_FILE_BYTES) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {MAX_FILE_BYTES} bytes"),
        ));
    }
    Ok((real.into(), bytes))
}

fn matching_files(glob: &Path, at: &Location) -> Result<Vec<PathBuf>, ConfError> {
    let folder = glob.with_file_name("");
    let (Some(pattern), false) = (glob.file_name(), folder.to_string_lossy().contains('*')) else {
        return Err(ConfError::Glob(at.clone()));
    };
    let pattern = pattern.to_string_lossy();
    let failed = |cause| ConfError::Read {
        from: Some(at.clone()),
        file: folder.clone(),
        cause,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if matches_glob(&pattern, &name) && (pattern.starts_with('.') || !name.starts_with('.')) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn matches_glob(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut name) = name.strip_prefix(head).and_then(|name| name.strip_suffix(tail)) else {
        return false;
    };
    middle.split('*').all(|part| {
        let after = name.split_once(part).map(|(_, after)| after);
        name = after.unwrap_or(name);
        after.is_some()
    })
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace())
}

/// Every place where a trailing comment could begin.
fn comments(text: &str) -> impl Iterator<Item = usize> {
    let blank = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
    text.match_indices('#').map(|(at, _)| at).filter(move |at| {
        let bytes = text.as_bytes();
        blank(at.checked_sub(1).and_then(|before| bytes.get(before))) && blank(bytes.get(at + 1))
    })
}

fn uncommented(text: &str) -> &str {
    comments(text).next().map_or(text, |at| trim(&text[..at]))
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

fn value_text(raw: &str) -> &str {
    let raw = trim(raw);
    if !raw.starts_with('"') {
        return uncommented(raw);
    }
    let mut ends = std::iter::once(raw.len()).chain(comments(raw));
    // An opening quote that nothing closes is part of the value, as it is in GNUnet.
    ends.find_map(|end| unquoted(trim(&raw[..end]))).unwrap_or(raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::expand::MAX_EXPANSION_DEPTH;
    use super::*;

    /// A folder with these files, the first of them the one to load.
    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        folder
    }

    /// Loads the first file; messages come without the folder's name.
    fn load(files: &[(&str, &str)]) -> Result<TalerConf, String> {
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, text)| (*name, text.as_bytes()))
            .collect();
        load_bytes(&files)
    }

    fn load_bytes(files: &[(&str, &[u8])]) -> Result<TalerConf, String> {
        let folder = folder(files);
        let prefix = format!("{}/", folder.path().canonicalize().unwrap().display());
        TalerConf::load(&folder.path().join(files[0].0))
            .map_err(|error| error.to_string().replace(&prefix, ""))
    }

    fn get<'a>(conf: &'a TalerConf, section: &str, key: &str) -> &'a str {
        &conf.get(section, key).unwrap().text
    }

    #[test]
    fn sections_and_keys_are_without_case_and_the_last_value_wins() {
        let text = "\u{feff}# c\r\n % c\n\t[ Taler ]\r\n currency=EUR\n\n[b]\nx = y\n[TALER] # again\nCURRENCY =\tKUDOS\t\r\nempty =";
        let conf = load(&[("a.conf", text)]).unwrap();
        assert_eq!(conf.section_names().collect::<Vec<_>>(), ["b", "Taler"]);
        let value = conf.get("taler", "Currency").unwrap();
        assert_eq!((value.text.as_str(), value.at.line), ("KUDOS", 9));
        assert!(value.at.file.is_absolute() && value.at.file.ends_with("a.conf"));
        assert_eq!(get(&conf, "taler", "empty"), "");
        assert_eq!(
            conf.section("taler").unwrap().options.keys().collect::<Vec<_>>(),
            ["CURRENCY", "EMPTY"]
        );
        assert_eq!(conf.section("TALER").unwrap().at.line, 3);
        assert_eq!((conf.get("taler", "x"), conf.get("c", "x")), (None, None));
    }

    #[test]
    fn quotes_and_trailing_comments() {
        let cases = [
            ("9966   # 0: any", "9966"),
            ("9966 #", "9966"),
            ("# nothing", ""),
            ("https://a/#b", "https://a/#b"),
            ("Shop #1 of 2 % 3", "Shop #1 of 2 % 3"),
            ("a = b", "a = b"),
            ("\" a # b \"", " a # b "),
            ("\"a \"b\" c\"", "a \"b\" c"),
            ("\"a # b\" # c", "a # b"),
            ("\"\"", ""),
            ("\"", "\""),
            ("\"a # b", "\"a # b"),
            ("\u{f6} # \u{f6}", "\u{f6}"),
        ];
        for (raw, text) in cases {
            assert_eq!(value_text(raw), text, "{raw}");
        }
    }

    #[test]
    fn malformed_lines_are_refused_with_file_and_line_and_not_quoted() {
        let cases: [(&[u8], &str); 14] = [
            (b"[a]\nsecret", "a.conf:2: neither [SECTION]"),
            (b"[a]\n = secret", "a.conf:2: neither [SECTION]"),
            (b"\nsecret = 1", "a.conf:2: an option outside"),
            (b"[secret", "a.conf:1: malformed section header"),
            (b"[]", "a.conf:1: malformed section header"),
            (b"[secret]]", "a.conf:1: malformed section header"),
            (b"[a]\nsecret = \xff", "a.conf:2: not UTF-8"),
            (b"[a]\nsecret = \0", "a.conf:2: not UTF-8"),
            (b"@secret", "a.conf:1: no such directive"),
            (b"@secret@ x", "a.conf:1: no such directive"),
            (b"@inline@ # secret", "a.conf:1: no such directive"),
            (b"@inline-secret@ secret", "a.conf:1: no such directive"),
            (b"@inline-secret@ sec[ret b.conf", "a.conf:1: no such directive"),
            (b"@inline-secret@ secret] b.conf", "a.conf:1: no such directive"),
        ];
        for (bytes, expected) in cases {
            let message = load_bytes(&[("a.conf", bytes)]).unwrap_err();
            assert!(
                message.starts_with(expected) && !message.contains(" secret"),
                "{message}"
            );
        }
    }

    #[test]
    fn files_are_inlined_relative_to_their_own_folder() {
        let conf = load(&[
            (
                "a.conf",
                "[x]\nA = 1\nB = 1\n@INLINE@ d/b.conf # more\nC = 1\n@Inline-Matching@ conf.d/*.conf\n",
            ),
            ("d/b.conf", "[x]\nB = 2\n@inline@ c.conf\n[other]\n"),
            ("d/c.conf", "[y]\nC = 2\n"),
            ("conf.d/2.conf", "[x]\nD = second\n"),
            ("conf.d/1.conf", "[x]\nD = first\n"),
            ("conf.d/.3.conf", "[x]\nD = hidden\n"),
            ("conf.d/4.conf~", "[x]\nD = backup\n"),
        ]);
        let conf = conf.unwrap();
        let values =
            [("x", "A"), ("x", "B"), ("x", "C"), ("y", "C"), ("x", "D")].map(|(s, k)| get(&conf, s, k));
        assert_eq!(values, ["1", "2", "1", "2", "second"]);
        let at = &conf.get("x", "B").unwrap().at;
        assert!(at.file.ends_with("d/b.conf") && at.line == 2);
    }

    #[test]
    fn what_cannot_be_inlined_is_refused_where_it_is_named() {
        let message = load(&[("a.conf", "\n@inline@ b.conf")]).unwrap_err();
        assert!(message.starts_with("a.conf:2: cannot read "), "{message}");
        let message = load(&[("a.conf", "@inline-matching@ none/*.conf")]).unwrap_err();
        assert!(message.starts_with("a.conf:1: cannot read "), "{message}");
        let message = load(&[("a.conf", "@inline-matching@ */b.conf")]).unwrap_err();
        assert!(message.starts_with("a.conf:1: * may only stand"), "{message}");
        let message = load(&[("a.conf", "@inline@ b.conf"), ("b.conf", "@inline@ ./a.conf")]).unwrap_err();
        assert!(
            message.starts_with("b.conf:1: a.conf inlines itself"),
            "{message}"
        );
        let missing = TalerConf::load(Path::new("/nonexistent/a.conf"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("cannot read /nonexistent/a.conf: "),
            "{missing}"
        );
    }

    #[test]
    fn secrets_give_one_section_only_and_may_be_unreadable() {
        let conf = load(&[
            (
                "a.conf",
                "[x]\n@inline-secret@ DB s.conf\n@inline-secret@ gone none.conf\nA = 1\n",
            ),
            ("s.conf", "[x]\nA = 2\nB = 2\n[db]\nCONFIG = hunter2\n"),
        ]);
        let conf = conf.unwrap();
        assert_eq!(
            (
                get(&conf, "db", "config"),
                get(&conf, "x", "A"),
                conf.get("x", "B")
            ),
            ("hunter2", "1", None)
        );
        assert!(
            conf.section("gone")
                .unwrap()
                .unread_secret
                .as_ref()
                .unwrap()
                .ends_with("none.conf")
        );
        assert_eq!(conf.section("db").unwrap().unread_secret, None);
        assert!(!format!("{conf:?}").contains("hunter2"));
        let message = load(&[
            ("a.conf", "@inline-secret@ x s.conf"),
            ("s.conf", "[x]\n@inline@ b"),
        ])
        .unwrap_err();
        assert!(
            message.starts_with("s.conf:2: a file read with @inline-secret@"),
            "{message}"
        );
    }

    #[test]
    fn size_depth_and_number_of_files_are_bounded() {
        let full = vec![b'#'; usize::try_from(MAX_FILE_BYTES).unwrap()];
        assert!(load_bytes(&[("a.conf", &full)]).is_ok());
        let over = [full.as_slice(), b"#"].concat();
        let message = load_bytes(&[("a.conf", &over)]).unwrap_err();
        assert!(message.contains("larger than 1048576 bytes"), "{message}");

        let chain = |depth: usize| {
            let files: Vec<(String, String)> = (0..=depth)
                .map(|i| {
                    (
                        format!("{i}"),
                        if i == depth {
                            String::new()
                        } else {
                            format!("@inline@ {}", i + 1)
                        },
                    )
                })
                .collect();
            load(
                &files
                    .iter()
                    .map(|(name, text)| (name.as_str(), text.as_str()))
                    .collect::<Vec<_>>(),
            )
        };
        assert!(chain(MAX_INLINE_DEPTH).is_ok());
        let message = chain(MAX_INLINE_DEPTH + 1).unwrap_err();
        assert!(
            message.starts_with("16:1: inlined more than 16 levels"),
            "{message}"
        );

        let many = |count| load(&[("a.conf", &"@inline@ b.conf\n".repeat(count)), ("b.conf", "")]);
        assert!(many(MAX_FILES - 1).is_ok());
        let message = many(MAX_FILES).unwrap_err();
        assert!(message.starts_with("a.conf:128: inlined more than"), "{message}");
    }

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf~", false),
            ("a*a", "a", false),
            ("a*b*c*d", "a-bc-c-d", true),
            ("a*b*c*d", "a-cb-d", false),
            ("a", "a", true),
            ("**", "", true),
        ] {
            assert_eq!(matches_glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    fn expanded(paths: &str, value: &str) -> Result<String, String> {
        let folder = folder(&[(
            "d/a.conf",
            format!("[PATHS]\n{paths}\n[x]\nV = \"{value}\"\n").as_bytes(),
        )]);
        let root = folder.path().canonicalize().unwrap();
        let conf = TalerConf::load(&root.join("d/a.conf")).unwrap();
        let env = |name: &str| match name {
            "HOME" => Some("/home/o".to_owned()),
            "ENV" => Some("/env/$A".to_owned()),
            "A" => Some("not this".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let result = conf.path_with(conf.get("x", "v").unwrap(), &env);
        let relative = |path: PathBuf| {
            path.strip_prefix(root.join("d"))
                .unwrap_or(&path)
                .display()
                .to_string()
        };
        result
            .map(relative)
            .map_err(|error| error.to_string().replace(&format!("{}/", root.display()), ""))
    }

    #[test]
    fn variables_come_from_paths_then_the_environment_then_the_default() {
        for (value, expected) in [
            ("/abs/x", "/abs/x"),
            ("rel/x", "rel/x"),
            ("$A/x", "a/x"),
            ("${a}x", "ax"),
            ("$A.x-$A", "a.x-a"),
            ("$ENV/x", "/env/a/x"),
            ("/${NONE:-${ALSO_NONE:-$A}}/x", "/a/x"),
            ("/${NONE:=d}/x", "/d/x"),
            ("/${A:-b}/x", "/a/x"),
            ("/${EMPTY:-b}x", "/x"),
            ("~/x", "/home/o/x"),
            ("~//x", "/home/o/x"),
            ("$/x$", "$/x$"),
            ("/$INDIRECT/x", "/a/x"),
        ] {
            assert_eq!(
                expanded("A = a\nINDIRECT = ${A}", value).unwrap(),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_refused() {
        for (paths, value, expected) in [
            (
                "",
                "$NONE/x",
                "d/a.conf:4: variable \"NONE\" is neither in [PATHS]",
            ),
            ("", "${A/x", "d/a.conf:4: ${ without its }"),
            ("", "$EMPTY", "d/a.conf:4: the file name is empty"),
            (
                "B = $C\nC = $B",
                "$B",
                "d/a.conf:5: its variables expand too deep",
            ),
            ("B = ${B}", "$B", "d/a.conf:4: its variables expand too deep"),
        ] {
            let message = expanded(paths, value).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
        let doubling: Vec<String> = (0..40)
            .map(|i| format!("V{i} = $V{}$V{}", i + 1, i + 1))
            .collect();
        for last in ["", "x"] {
            let message = expanded(&format!("{}\nV40 = {last}", doubling.join("\n")), "/$V0").unwrap_err();
            assert!(message.contains("expand too deep"), "{message}");
        }
        assert!(
            expanded("", &format!("/{}", "x".repeat(MAX_PATH_BYTES)))
                .unwrap_err()
                .contains("more than 4096 bytes")
        );
        let deep: Vec<String> = (0..MAX_EXPANSION_DEPTH - 1)
            .map(|i| format!("V{i} = $V{}", i + 1))
            .collect();
        assert_eq!(
            expanded(&format!("{}\nV127 = /x", deep.join("\n")), "$V0").unwrap(),
            "/x"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Err(message) = load_bytes(&[("a.conf", &bytes)]) {
                prop_assert!(message.starts_with("a.conf:"), "{}", message);
            }
        }

        /// Made of the format's own pieces; what loads is then expanded value by value.
        #[test]
        fn arbitrary_text_never_panics(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "[", "]", "[a]\n", "[PATHS]\n", "\n", "=", " = ", "A", "\u{f6}", "\"", " # ", "#", "%", "@", "@inline@ ",
                    "@inline-matching@ ", "@inline-secret@ ", "b.conf\n", "*", "$", "${", "}", ":-", "$A", "~/", ".", " ", "\r\n",
                ]),
                0..40,
            )
        ) {
            let folder = folder(&[("a.conf", pieces.concat().as_bytes()), ("b.conf", b"[a]\nA = $B\n")]);
            match TalerConf::load(&folder.path().join("a.conf")) {
                Err(error) => prop_assert!(error.to_string().contains(".conf:"), "{}", error),
                Ok(conf) => {
                    for (key, value) in conf.section_names().flat_map(|name| &conf.section(name).unwrap().options) {
                        prop_assert!(!key.is_empty() && !value.text.contains('\n'));
                        if let Ok(path) = conf.path_with(value, &|_| None) {
                            prop_assert!(path.is_absolute());
                        }
                    }
                }
            }
        }

        /// A value in quotes comes back as it was, whatever it holds.
        #[test]
        fn quoted_values_are_verbatim(text in r"[ -~\u{e4}\u{20ac}]{0,40}") {
            let conf = load(&[("a.conf", &format!("[a]\nK = \"{text}\"\n"))]).unwrap();
            prop_assert_eq!(get(&conf, "a", "k"), &text);
        }
    }
}
