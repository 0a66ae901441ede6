//! Variables in file names: `$NAME`, `${NAME}` and `${NAME:-default}`, within bounds, as taler.conf(5) has
//! them. Where a variable comes from is the caller's affair; nothing here looks at the file system.

use super::taler_conf::{ConfError, Location};

/// How deep variables may refer to variables: the bound that taler.conf(5) names.
pub(super) const MAX_EXPANSION_DEPTH: usize = 128;
/// Most variables looked up for one value, since `A = $B$B`, `B = $C$C` and so on double with every level.
const MAX_EXPANSIONS: usize = 1024;
/// Longest file name, before and after expansion: Linux takes none longer (`PATH_MAX`).
pub(super) const MAX_PATH_BYTES: usize = 4096;

/// Expands the variables of a value and those in what they stand for. `at` is where the value is, for errors.
pub(super) fn expand(
    text: &str,
    at: &Location,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ConfError> {
    let mut out = String::new();
    Expansion {
        variable,
        at,
        lookups: 0,
    }
    .append(text, 0, &mut out)?;
    Ok(out)
}

struct Expansion<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    at: &'a Location,
    lookups: usize,
}

impl Expansion<'_> {
    fn append(&mut self, text: &str, depth: usize, out: &mut String) -> Result<(), ConfError> {
        if depth > MAX_EXPANSION_DEPTH || text.len() > MAX_PATH_BYTES {
            return Err(ConfError::Expansion(self.at.clone()));
        }
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (name, default);
            if let Some(body) = after.strip_prefix('{') {
                let end = closing_brace(body).ok_or_else(|| ConfError::Unbalanced(self.at.clone()))?;
                (name, default) = match body[..end].split_once(':') {
                    Some((name, default)) => {
                        (name, Some(default.strip_prefix(['-', '=']).unwrap_or(default)))
                    }
                    None => (&body[..end], None),
                };
                rest = &body[end + 1..];
            } else {
                let end = after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len());
                (name, default) = (&after[..end], None);
                rest = &after[end..];
                if name.is_empty() {
                    out.push('$');
                    continue;
                }
            }
            self.lookups += 1;
            if self.lookups > MAX_EXPANSIONS {
                return Err(ConfError::Expansion(self.at.clone()));
            }
            let found = (self.variable)(name).or_else(|| default.map(str::to_owned));
            let unknown = || ConfError::UnknownVariable {
                at: self.at.clone(),
                name: name.to_owned(),
            };
            self.append(&found.ok_or_else(unknown)?, depth + 1, out)?;
        }
        out.push_str(rest);
        if out.len() > MAX_PATH_BYTES {
            Err(ConfError::Expansion(self.at.clone()))
        } else {
            Ok(())
        }
    }
}

fn closing_brace(body: &str) -> Option<usize> {
    let mut open = 1_usize;
    body.bytes().position(|byte| {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        open == 0
    })
}
