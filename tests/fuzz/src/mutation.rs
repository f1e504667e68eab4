//! Mutations of JSON that keep its structure: they swap, remove, double and replace values.
//! A few mutations break the text instead.

use serde_json::{Value, json};

use crate::Random;

/// Returns an extreme value, for any place.
fn odd(random: &mut Random) -> Value {
    let long = "x".repeat(5000);
    let list = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(i32::MAX),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("/"),
        json!(".."),
        json!("../x"),
        json!("/../../x"),
        json!("a//b"),
        json!("\u{0}"),
        json!("a\nb"),
        json!("="),
        json!("é"),
        json!("/proc/self/ns/net"),
        json!("18446744073709551616"),
        json!("0-4294967295"),
        json!("2mb"),
        json!("system.slice:a:b"),
        json!(long),
        json!([]),
        json!({}),
        json!([null]),
        json!([[]]),
        json!({"": null}),
    ];
    random.of(&list).clone()
}

/// Returns a random value in a tree.
fn place<'a>(tree: &'a mut Value, random: &mut Random) -> &'a mut Value {
    let mut at = tree;
    for _ in 0..12 {
        let stop = random.below(6) == 0;
        let empty = match at {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        };
        if stop || empty {
            break;
        }
        at = match at {
            Value::Array(list) => {
                let index = random.below(list.len());
                &mut list[index]
            }
            Value::Object(map) => {
                let index = random.below(map.len());
                map.values_mut()
                    .nth(index)
                    .expect("an index below the length")
            }
            other => other,
        };
    }
    at
}

/// Returns a mutated copy of a text. Values may come from `other`.
pub(crate) fn mutate(text: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    let Ok(mut tree) = serde_json::from_slice::<Value>(&text) else {
        return bytes(text, random);
    };
    if random.below(20) == 0 {
        return bytes(text, random);
    }
    let mut lender = serde_json::from_slice(other).unwrap_or(Value::Null);
    for _ in 0..=random.below(4) {
        let lent = place(&mut lender, random).clone();
        change(place(&mut tree, random), lent, random);
    }
    serde_json::to_vec(&tree).unwrap_or_default()
}

fn change(value: &mut Value, lent: Value, random: &mut Random) {
    match (random.below(7), value) {
        (0, Value::Array(list)) if !list.is_empty() => {
            let index = random.below(list.len());
            list.remove(index);
        }
        (1, Value::Array(list)) if !list.is_empty() && list.len() < 500 => {
            let one = random.of(list).clone();
            let times = *random.of(&[1, 1, 2, 300]);
            list.extend(std::iter::repeat_n(one, times));
        }
        (0 | 1, Value::Object(map)) if !map.is_empty() => {
            let index = random.below(map.len());
            let key = map.keys().nth(index).cloned().unwrap_or_default();
            map.remove(&key);
        }
        (2, Value::Object(map)) => {
            let (Some(key), one) = (map.keys().next().cloned(), odd(random)) else {
                return;
            };
            map.insert(key, one);
        }
        (2, Value::Array(list)) => list.push(lent),
        (3, Value::Number(number)) => {
            let by = *random.of(&[-1, 1, 1 << 16, -(1 << 31)]);
            *number = number.as_i64().unwrap_or(0).wrapping_add(by).into();
        }
        (3, Value::String(text)) => {
            *text = String::from_utf8_lossy(&bytes(text.clone().into_bytes(), random)).into_owned();
        }
        (4, value) => *value = lent,
        (_, value) => *value = odd(random),
    }
}

/// Changes, removes, doubles and inserts bytes.
pub(crate) fn bytes(mut text: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        match random.below(5) {
            0 if at < text.len() => text[at] = random.next() as u8,
            1 if at < text.len() => {
                text.remove(at);
            }
            2 => text.truncate(at),
            3 if !text.is_empty() => {
                let from = random.below(text.len());
                let piece: Vec<u8> = text[from..].iter().take(16).copied().collect();
                text.splice(at..at, piece);
            }
            _ => text.insert(at, *random.of(b"\0\n,:=/.-+0129a{}[]\"\\\xff ")),
        }
    }
    text
}
