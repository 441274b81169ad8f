package output

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// rowsAtOnce is how many rows are aligned to one another.
const rowsAtOnce = 1000

// Table is columns of text. What stands in a column is aligned; a heading that
// begins with ">" makes it one of numbers, which end in one line, and one that
// begins with "+" is only there with -o wide ("+>" is both).
type Table struct {
	options *Options
	columns []column
	rows    [][]string
	begun   bool
}

type column struct {
	head  string
	right bool
	wide  bool
	width int
}

// Table makes a table with headings.
func (o *Options) Table(heads ...string) *Table {
	t := &Table{options: o}
	for _, head := range heads {
		var c column
		head, c.wide = strings.CutPrefix(head, "+")
		head, c.right = strings.CutPrefix(head, ">")
		c.head = head
		t.columns = append(t.columns, c)
	}
	return t
}

// Row adds a row, with a cell for every column, those of wide tables too. An
// empty cell is shown as "-".
func (t *Table) Row(cells ...string) {
	row := make([]string, len(t.columns))
	copy(row, cells)
	for i := range row {
		row[i] = printable(row[i])
		if row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// printable keeps what a cell says from moving the cursor or breaking the line.
func printable(cell string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r < 0xa0 {
			return utf8.RuneError
		}
		return r
	}, cell)
}

// flushIfLong writes what there is once it is much.
func (t *Table) flushIfLong(out io.Writer) error {
	if len(t.rows) < rowsAtOnce {
		return nil
	}
	return t.Flush(out)
}

// Flush writes the rows so far, and the headings before the first. Columns get
// wider from one time to the next, never narrower.
func (t *Table) Flush(out io.Writer) error {
	rows := t.rows
	if !t.begun && !t.options.NoHeaders {
		heads := make([]string, len(t.columns))
		for i, c := range t.columns {
			heads[i] = c.head
		}
		rows = slices.Insert(rows, 0, heads)
	}
	t.begun, t.rows = true, nil
	var shown []int
	for i := range t.columns {
		if c := &t.columns[i]; !c.wide || t.options.Format == FormatWide {
			shown = append(shown, i)
			for _, row := range rows {
				c.width = max(c.width, utf8.RuneCountInString(row[i]))
			}
		}
	}
	w := bufio.NewWriter(out)
	for _, row := range rows {
		var line strings.Builder
		for n, i := range shown {
			if n > 0 {
				line.WriteString("  ")
			}
			c := &t.columns[i]
			space := strings.Repeat(" ", c.width-utf8.RuneCountInString(row[i]))
			if c.right {
				line.WriteString(space + row[i])
			} else {
				line.WriteString(row[i] + space)
			}
		}
		w.WriteString(strings.TrimRight(line.String(), " "))
		w.WriteByte('\n')
	}
	return w.Flush()
}
