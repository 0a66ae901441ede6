//! A little reader of SQLite's file format (sqlite.org/fileformat2.html), apart from SQLite: it says of each byte of
//! a file whether it holds a stored value. It reads sound files only.

#![allow(unreachable_pub, reason = "a module of tests is public to its tests only")]

use std::collections::BTreeMap;

/// For each byte of a file the table or index whose value it holds; none for structure and free space.
pub struct Marks(pub Vec<Option<u8>>, pub Vec<String>);

struct File<'a> {
    bytes: &'a [u8],
    page: usize,
    usable: usize,
}

/// What a value is, as the record's header tells.
struct Column {
    serial: u64,
    /// Where the header's entry stands.
    header: Vec<usize>,
    /// Where the value's bytes stand.
    body: Vec<usize>,
}

/// A row: where its number stands and what it is, and its columns.
struct Row {
    number: Vec<usize>,
    columns: Vec<Column>,
}

impl File<'_> {
    fn u16(&self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    fn u32(&self, at: usize) -> usize {
        let bytes = [0, 1, 2, 3].map(|i| self.bytes[at + i]);
        usize::try_from(u32::from_be_bytes(bytes)).unwrap()
    }

    /// A number of one to nine bytes, and where it stands.
    fn varint(&self, places: impl IntoIterator<Item = usize>) -> (u64, Vec<usize>) {
        let (mut value, mut at) = (0_u64, Vec::new());
        for place in places {
            let byte = self.bytes[place];
            at.push(place);
            if at.len() == 9 {
                return ((value << 8) | u64::from(byte), at);
            }
            value = (value << 7) | u64::from(byte & 0x7f);
            if byte < 0x80 {
                return (value, at);
            }
        }
        panic!("a number goes beyond its record")
    }

    /// All rows of a tree, interior ones of an index among them.
    fn rows(&self, page: usize, rows: &mut Vec<Row>) {
        let start = (page - 1) * self.page;
        let header = start + if page == 1 { 100 } else { 0 };
        let kind = self.bytes[header];
        let (is_interior, is_table) = match kind {
            0x02 => (true, false),
            0x05 => (true, true),
            0x0a => (false, false),
            0x0d => (false, true),
            other => panic!("page {page} is of kind {other}"),
        };
        let pointers = header + if is_interior { 12 } else { 8 };
        for cell in 0..self.u16(header + 3) {
            let mut at = start + self.u16(pointers + 2 * cell);
            if is_interior {
                self.rows(self.u32(at), rows);
                at += 4;
                if is_table {
                    continue;
                }
            }
            let (length, held) = self.varint(at..);
            at += held.len();
            let mut number = Vec::new();
            if is_table {
                number = self.varint(at..).1;
                at += number.len();
            }
            let payload = self.payload(at, usize::try_from(length).unwrap(), is_table);
            rows.push(Row {
                number,
                columns: self.columns(&payload),
            });
        }
        if is_interior {
            self.rows(self.u32(header + 8), rows);
        }
    }

    /// Where a record's bytes stand, those on overflow pages too.
    fn payload(&self, at: usize, length: usize, is_table: bool) -> Vec<usize> {
        let usable = self.usable;
        let most = if is_table {
            usable - 35
        } else {
            (usable - 12) * 64 / 255 - 23
        };
        if length <= most {
            return (at..at + length).collect();
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let wanted = least + (length - least) % (usable - 4);
        let local = if wanted <= most { wanted } else { least };
        let mut places: Vec<usize> = (at..at + local).collect();
        let mut next = self.u32(at + local);
        while next != 0 {
            let start = (next - 1) * self.page;
            let here = (length - places.len()).min(usable - 4);
            places.extend(start + 4..start + 4 + here);
            next = self.u32(start);
        }
        assert_eq!(places.len(), length);
        places
    }

    fn columns(&self, payload: &[usize]) -> Vec<Column> {
        let (header, at) = self.varint(payload.iter().copied());
        let header = usize::try_from(header).unwrap();
        let (mut at, mut body, mut columns) = (at.len(), header, Vec::new());
        while at < header {
            let (serial, held) = self.varint(payload[at..].iter().copied());
            at += held.len();
            let size = match serial {
                0 | 8 | 9 => 0,
                1..=4 => serial,
                5 => 6,
                6 | 7 => 8,
                text_or_blob => (text_or_blob - 12) / 2,
            };
            let size = usize::try_from(size).unwrap();
            columns.push(Column {
                serial,
                header: held,
                body: payload[body..body + size].to_vec(),
            });
            body += size;
        }
        assert_eq!(body, payload.len(), "a record ends with its last column");
        columns
    }

    fn text(&self, column: &Column) -> String {
        String::from_utf8(column.body.iter().map(|at| self.bytes[*at]).collect()).unwrap()
    }

    fn number(&self, column: &Column) -> usize {
        match column.serial {
            8 => 0,
            9 => 1,
            _ => column
                .body
                .iter()
                .fold(0, |n, at| (n << 8) | usize::from(self.bytes[*at])),
        }
    }
}

/// Reads a file's structure and marks the bytes of all values in all tables and indexes.
pub fn marks(bytes: &[u8]) -> Marks {
    let mut file = File {
        bytes,
        page: 0,
        usable: 0,
    };
    file.page = match file.u16(16) {
        1 => 65_536,
        size => size,
    };
    file.usable = file.page - usize::from(bytes[20]);
    assert_eq!(bytes.len() % file.page, 0);
    let mut marks = Marks(vec![None; bytes.len()], Vec::new());
    let mut schema = Vec::new();
    file.rows(1, &mut schema);
    for row in schema {
        let [kind, name, _, root, sql] = row.columns.as_slice() else {
            panic!("sqlite_schema has five columns")
        };
        if file.number(root) == 0 {
            continue;
        }
        let (kind, name, sql) = (file.text(kind), file.text(name), file.text(sql));
        let id = u8::try_from(marks.1.len()).unwrap();
        // A column that is the row's number is stored as nothing.
        let is_number = kind == "table" && sql.contains("INTEGER PRIMARY KEY");
        let mut rows = Vec::new();
        file.rows(file.number(root), &mut rows);
        for row in rows {
            let mut held = if is_number { row.number } else { Vec::new() };
            for column in row.columns {
                // Zero and one are told by the header alone.
                if matches!(column.serial, 8 | 9) {
                    held.extend(&column.header);
                }
                held.extend(column.body);
            }
            for at in held {
                assert!(marks.0[at].replace(id).is_none(), "a byte has one owner");
            }
        }
        marks.1.push(name);
    }
    marks
}

impl Marks {
    /// How many bytes each table and index holds.
    pub fn held(&self) -> BTreeMap<&str, usize> {
        let mut held = BTreeMap::new();
        for id in self.0.iter().flatten() {
            *held.entry(self.1[usize::from(*id)].as_str()).or_default() += 1;
        }
        held
    }
}
