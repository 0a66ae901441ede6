//! Holds every reply that a test sees against `openapi.json`: path, method, status, content type and body. Knows the
//! words of JSON Schema that the document uses, and refuses to pass over another one.

use quittance::http::openapi::document;
use serde_json::Value;

/// Panics where the document does not know such a reply.
pub fn check(method: &str, path: &str, status: u16, content_type: Option<&str>, body: &[u8]) {
    if let Err(why) = judge(method, path, status, content_type, body) {
        let body = String::from_utf8_lossy(body);
        panic!("{method} {path} answered {status}, which openapi.json does not know: {why}\n{body}");
    }
}

fn judge(
    method: &str,
    path: &str,
    status: u16,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<(), String> {
    let path = format!(
        "/{}",
        path.strip_prefix('/')
            .unwrap_or(path)
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
    );
    let paths = document()["paths"].as_object().unwrap();
    // Of two templates that fit the one with fewer names is meant.
    let found = paths
        .iter()
        .filter(|(template, _)| fits(template, &path))
        .min_by_key(|(template, _)| template.matches('{').count());
    let word = method.to_ascii_lowercase();
    if paths.values().all(|methods| methods.get(&word).is_none()) {
        return error(status, 405, 20, body);
    }
    let Some((template, methods)) = found else {
        return error(status, 404, 21, body);
    };
    let Some(operation) = methods.get(&word) else {
        // A tile's path has more rules than a template can say.
        return error(status, 405, 20, body).or_else(|why| {
            let is_tile = template.starts_with("/ledger/tile/");
            if is_tile {
                error(status, 404, 21, body)
            } else {
                Err(why)
            }
        });
    };
    let mut response = &operation["responses"][status.to_string()];
    if let Some(place) = response["$ref"].as_str() {
        response = document().pointer(place.trim_start_matches('#')).unwrap();
    }
    if response.is_null() {
        return Err(format!("no such status of {template}"));
    }
    let Some(content) = response.get("content").and_then(Value::as_object) else {
        return if body.is_empty() {
            Ok(())
        } else {
            Err("a body".into())
        };
    };
    let found = content.iter().find(|(media, _)| content_type == Some(media));
    let Some((media, content)) = found else {
        return Err(format!("content type {content_type:?}"));
    };
    if media != "application/json" {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    holds(&content["schema"], &value, "the body")
}

fn error(status: u16, expected: u16, code: u64, body: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    if (status, value["code"].as_u64()) == (expected, Some(code)) {
        Ok(())
    } else {
        Err(format!("what it does not name is {expected} with {code}"))
    }
}

/// A template's names stand for one segment; behind a tile's number there may be more, as the document says.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let tile = template.get(1..3) == Some(&["ledger", "tile"]);
    let is = |(name, segment): (&&str, &&str)| name.starts_with('{') || name == segment;
    let same = template.len() == path.len() && template.iter().zip(&path).all(is);
    same || tile && path.len() > template.len() && template.iter().zip(&path).all(is)
}

fn holds(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{at} is not {what} {schema}: {value}"));
    let words = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(words) => words,
        _ => return wrong("a schema"),
    };
    for (word, rule) in words {
        let list = || rule.as_array().into_iter().flatten();
        match word.as_str() {
            "$ref" => {
                let place = rule.as_str().unwrap().trim_start_matches('#');
                holds(document().pointer(place).unwrap(), value, at)?;
            }
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                if !(is_one(rule, is) || list().any(is)) {
                    return wrong("of the type of");
                }
            }
            "const" if rule != value => return wrong("the constant of"),
            "enum" if !list().any(|one| one == value) => return wrong("one of"),
            "required" => {
                if let Some(missing) = list().find(|name| value.get(name.as_str().unwrap()).is_none()) {
                    return wrong(&format!("with {missing} as in"));
                }
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        holds(schema, member, name)?;
                    }
                }
            }
            "additionalProperties" => {
                let named = schema["properties"].as_object();
                for (name, member) in value.as_object().into_iter().flatten() {
                    if named.is_none_or(|named| !named.contains_key(name)) {
                        holds(rule, member, name)?;
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    holds(rule, item, at)?;
                }
            }
            "anyOf" if !list().any(|one| holds(one, value, at).is_ok()) => return wrong("any of"),
            "oneOf" if list().filter(|one| holds(one, value, at).is_ok()).count() != 1 => {
                return wrong("just one of");
            }
            "minimum" if value.as_u64() < rule.as_u64() => return wrong("as great as"),
            "maximum" if value.as_u64() > rule.as_u64() => return wrong("as small as"),
            // Patterns are schemathesis's to check; formats say how a machine keeps a number.
            "const" | "enum" | "anyOf" | "oneOf" | "minimum" | "maximum" | "pattern" | "format"
            | "description" | "title" | "default" => {}
            other => panic!("openapi.json uses `{other}`, which this does not know"),
        }
    }
    Ok(())
}

fn is_one(rule: &Value, is: impl Fn(&Value) -> bool) -> bool {
    rule.is_string() && is(rule)
}
