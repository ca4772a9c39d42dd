//! `list` and `status` for programs. A running array is its report; one that does not run has the
//! same names for what is known of it, and `stopped` or `unknown` as its state.

use crate::cli::find::Found;
use crate::units::ArrayId;
use serde_json::{Value, json};

/// Everything.
pub fn status_json(found: &Found) -> Value {
    match found {
        Found::Running(report) => serde_json::to_value(report).unwrap_or(Value::Null),
        Found::Stopped { name, config: Ok(config) } => {
            let members: Vec<_> = config.members.iter().map(|path| json!({ "path": path })).collect();
            json!({
                "name": name, "uuid": config.uuid, "state": "stopped",
                "members": members, "tasks": [], "exports": [],
            })
        }
        Found::Stopped { name, config: Err(e) } => dark(name, "stopped", &e.report()),
        Found::Silent { name, reason } => dark(name, "unknown", reason),
    }
}

/// The line of `list`.
pub fn list_json(found: &Found) -> Value {
    let mut value = status_json(found);
    if let Some(fields) = value.as_object_mut() {
        for long in ["members", "problems", "event_count", "scrub"] {
            fields.remove(long);
        }
    }
    value
}

fn dark(name: &str, state: &str, reason: &str) -> Value {
    json!({
        "name": name, "uuid": ArrayId::NIL, "state": state, "error": reason,
        "members": [], "tasks": [], "exports": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::sample;

    #[test]
    fn the_promised_fields_are_there() {
        let value = status_json(&Found::Running(Box::new(sample::degraded())));
        for field in ["name", "uuid", "clean", "data", "parity", "size_bytes"] {
            assert!(!value[field].is_null(), "{field} in {value}");
        }
        assert_eq!(value["state"], "degraded");
        let member = &value["members"][3];
        assert_eq!((&member["slot"], &member["path"]), (&json!(3), &json!("/srv/d3.img")));
        assert!(member["uuid"].is_string());
        assert_eq!(member["state"], "faulty");
        assert_eq!(member["errors"], json!({ "read": 0, "write": 7, "checksum": 0 }));
        let task = &value["tasks"][0];
        assert_eq!((&task["kind"], &task["percent"]), (&json!("rebuild"), &json!(42.5)));
        assert_eq!(task["rate_bytes_per_s"], 181 << 20);
        assert_eq!(task["eta_s"], 3);
        assert!(value["exports"][0]["uri"].as_str().unwrap().starts_with("nbd+unix:///tank?socket="));
    }

    #[test]
    fn an_array_that_does_not_run_says_so_in_the_same_field() {
        let found = Found::Silent { name: "tank".to_owned(), reason: "no answer".to_owned() };
        assert_eq!(status_json(&found)["state"], "unknown");
        assert_eq!(list_json(&found)["name"], "tank");
    }
}
