//! The templates of webhooks, the part of mustache that Taler's merchants document: `{{ name }}` and `{{ name.member }}`
//! stand for what happened, `{{{ name }}}` (or `{{& name }}`) for the same as it is. Sections, partials and comments are
//! refused rather than left to stand as text.

use serde_json::Value;

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Braces without end.
    #[error("`{{{{` without its `}}}}`")]
    Open,
    /// Something else than a name between them.
    #[error(
        "`{0}` is no name: names of letters, digits and _, joined by dots, are all that may stand in braces"
    )]
    Name(String),
}

/// Where a template's text goes, and so what must not come of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A body, taken for JSON: a text is escaped so that it may stand between quotation marks.
    Body,
    /// A header's value: one line of visible ASCII.
    Header,
}

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value { path: Vec<String>, raw: bool },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// It has something else than names in double braces.
    pub fn read(text: &str) -> Result<Template, TemplateError> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once("{{") {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (inner, raw, behind) = match behind.strip_prefix('{') {
                Some(behind) => {
                    let (inner, behind) = behind.split_once("}}}").ok_or(TemplateError::Open)?;
                    (inner, true, behind)
                }
                None => {
                    let (inner, behind) = behind.split_once("}}").ok_or(TemplateError::Open)?;
                    let raw = inner.strip_prefix('&');
                    (raw.unwrap_or(inner), raw.is_some(), behind)
                }
            };
            let path: Vec<String> = inner.trim().split('.').map(str::to_owned).collect();
            let is_name = |name: &String| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            if !path.iter().all(is_name) {
                return Err(TemplateError::Name(inner.trim().to_owned()));
            }
            pieces.push(Piece::Value { path, raw });
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// The text with values in the names' place; nothing for a name that there is not. `None`: it would be longer than
    /// `max` bytes.
    #[must_use]
    pub fn fill(&self, values: &Value, place: Place, max: usize) -> Option<String> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Value { path, raw } => {
                    let value = path.iter().try_fold(values, |value, name| value.get(name));
                    filled.push_str(&text_of(value.unwrap_or(&Value::Null), *raw, place));
                }
            }
            if filled.len() > max {
                return None;
            }
        }
        Some(filled)
    }
}

fn text_of(value: &Value, raw: bool, place: Place) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) if place == Place::Body && !raw => {
            let quoted = value.to_string();
            debug_assert!(
                quoted.len() >= text.len() + 2,
                "JSON puts a text in quotation marks"
            );
            return quoted[1..quoted.len() - 1].to_owned();
        }
        Value::String(text) => text.clone(),
        // Numbers as they are; objects and lists as the JSON that they are.
        value => value.to_string(),
    };
    match place {
        Place::Body => text,
        Place::Header => {
            let visible = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
            text.chars().map(visible).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use serde_json::json;

    use super::*;

    fn filled(template: &str, place: Place) -> String {
        let values = json!({
            "order_id": "a", "n": 7, "yes": true, "none": null,
            "contract_terms": {"summary": "say \"hi\"\r\nX-Evil: 1 \u{fc}", "list": [1, {"a": "b"}]},
        });
        Template::read(template)
            .unwrap()
            .fill(&values, place, 1000)
            .unwrap()
    }

    #[test]
    fn names_stand_for_values() {
        for (template, text) in [
            ("", ""),
            ("plain } }} {", "plain } }} {"),
            ("{{order_id}}/{{ n }}/{{yes}}", "a/7/true"),
            ("[{{ none }}{{ absent }}{{ order_id.x }}]", "[]"),
            (
                r#"{"s":"{{contract_terms.summary}}"}"#,
                "{\"s\":\"say \\\"hi\\\"\\r\\nX-Evil: 1 \u{fc}\"}",
            ),
            ("{{{contract_terms.summary}}}", "say \"hi\"\r\nX-Evil: 1 \u{fc}"),
            ("{{& contract_terms.summary }}", "say \"hi\"\r\nX-Evil: 1 \u{fc}"),
            ("{{contract_terms.list}}", r#"[1,{"a":"b"}]"#),
        ] {
            assert_eq!(filled(template, Place::Body), text, "{template}");
        }
    }

    #[test]
    fn a_header_stays_one_line() {
        for template in ["{{contract_terms.summary}}", "{{{contract_terms.summary}}}"] {
            assert_eq!(filled(template, Place::Header), "say \"hi\"??X-Evil: 1 ?");
        }
    }

    #[test]
    fn other_mustache_is_refused() {
        for template in [
            "{{#list}}",
            "{{^a}}",
            "{{/a}}",
            "{{>file}}",
            "{{! no }}",
            "{{=<% %>=}}",
            "{{}}",
            "{{a..b}}",
            "{{a b}}",
        ] {
            assert!(
                matches!(Template::read(template), Err(TemplateError::Name(_))),
                "{template}"
            );
        }
        for template in ["{{", "{{a}", "{{{a}}", "x {{a"] {
            assert_eq!(Template::read(template), Err(TemplateError::Open), "{template}");
        }
    }

    #[test]
    fn what_would_be_too_long_is_not_made() {
        let template = Template::read("{{a}}{{a}}{{a}}").unwrap();
        let values = json!({"a": "x".repeat(10)});
        assert_eq!(template.fill(&values, Place::Body, 30).unwrap().len(), 30);
        assert_eq!(template.fill(&values, Place::Body, 29), None);
    }
}
