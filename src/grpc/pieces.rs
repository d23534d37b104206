//! A long text in pieces.

/// The text in pieces of at most `max` octets, cut behind a newline where a line fits
/// into a piece, else between two characters. Joined they are the text.
pub(super) fn pieces(mut text: &str, max: usize) -> Vec<String> {
    let mut list = Vec::new();
    while text.len() > max {
        let end = (1..=max)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(text.len());
        let cut = text[..end].rfind('\n').map_or(end, |newline| newline + 1);
        let (piece, rest) = text.split_at(cut);
        list.push(piece.to_owned());
        text = rest;
    }
    if !text.is_empty() {
        list.push(text.to_owned());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_lines_where_lines_fit() {
        assert!(pieces("", 4).is_empty());
        assert_eq!(pieces("ab\ncd\ne", 4), ["ab\n", "cd\ne"]);
        assert_eq!(pieces("ab\ncd\n", 3), ["ab\n", "cd\n"]);
        assert_eq!(pieces("abcdef\ng", 4), ["abcd", "ef\ng"]);
        assert_eq!(pieces("ééé", 3), ["é", "é", "é"]);
    }
}
