package options

import (
	"fmt"
	"strings"
)

// suggest words a hint to the known word that a mistyped one is nearest to; ""
// when none is near. Case is no difference.
func suggest(typed string, known []string) string {
	best, distance := "", max(1, (len(typed)+1)/3)+1
	for _, k := range known {
		if d := slips(strings.ToLower(typed), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// slips is the Levenshtein distance: how many insertions, deletions and
// replacements make b of a.
func slips(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(row[j]+1, row[j-1]+1, cost)
		}
	}
	return row[len(b)]
}
