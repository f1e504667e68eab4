//! The one table of known properties that aren't done yet: asked for with an effect, they are refused by name, never ignored.
//! Not unknown properties, which the specification wants ignored.

use serde_json::Value;

use crate::error::Violation;

/// Section and property.
const FIELDS: &[(&str, &str)] = &[("linux", "intelRdt")];

/// Finds what a tree asks for and isn't done.
pub(super) fn find(tree: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refuse = |place: String| violations.push(Violation::new(place, "not supported yet"));
    for (section, field) in FIELDS {
        let value = tree.get(*section).and_then(|section| section.get(*field));
        if value.is_some_and(has_effect) {
            refuse(format!("{section}.{field}"));
        }
    }
    violations
}

/// True unless the value says nothing, as engines write it: `""`, `[]`, `{}`, null.
fn has_effect(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(tree: &Value) -> Vec<String> {
        find(tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_property_of_the_table_is_refused_by_name() {
        for (section, field) in FIELDS {
            for value in [json!("x"), json!(["x"]), json!({"x": 1})] {
                assert_eq!(
                    refused(&json!({ *section: { *field: value } })),
                    [format!("config.json: {section}.{field}: not supported yet")]
                );
            }
        }
    }

    #[test]
    fn empty_values_are_no_request() {
        for (section, field) in FIELDS {
            for value in [json!(""), json!([]), json!({}), json!(null)] {
                assert!(refused(&json!({ *section: { *field: value } })).is_empty());
            }
        }
        let tree =
            json!({"hooks": {}, "mounts": [{"uidMappings": []}], "linux": {"mountLabel": ""}});
        assert!(refused(&tree).is_empty());
    }
}
