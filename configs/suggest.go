package configs

import (
	"fmt"
	"strings"
)

// suggest words a hint to the known name that a mistyped one is nearest to, or
// gives "" when none is near. Case is no difference. quote is the form of the
// hint's name, such as `"%s"`.
func suggest(typed string, known []string, quote string) string {
	best, bestDistance := "", nearEnough(typed)+1
	for _, k := range known {
		if d := editDistance(strings.ToLower(typed), strings.ToLower(k), bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean "+quote+"?)", best)
}

// nearEnough is how many slips a name of this length may have to be recognised.
func nearEnough(typed string) int { return max(1, (len(typed)+1)/3) }

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment), or gives limit
// when it is not less.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
			least = min(least, d)
		}
		if least >= limit {
			return limit
		}
		before, above, row = above, row, before
	}
	return min(above[len(b)], limit)
}
