package quorum

// secondOpinions is how many nodes look at a backend that one of them has found
// down, where fewer check it otherwise: the least number of which one can be wrong.
const secondOpinions = 3

// checkers is how many nodes check a backend, of which some node says that it is
// down, or none does; 0: all.
func checkers(wanted int, doubted bool) int {
	if doubted && wanted > 0 {
		return max(wanted, secondOpinions)
	}
	return wanted
}

// pick appends those k of the candidates that check a backend; all when there are
// no more, or when k is 0. Candidates are in the order of their names, which
// decides between equal scores.
func pick(candidates []*voter, id ID, k int, out []*voter) []*voter {
	if k <= 0 || k >= len(candidates) {
		return append(out, candidates...)
	}
	// The k best so far are kept in order of their scores; k is small.
	first := len(out)
	for _, c := range candidates {
		s := score(c.hash, id)
		at := len(out)
		for at > first && score(out[at-1].hash, id) < s {
			at--
		}
		if at-first == k {
			continue
		}
		if len(out)-first < k {
			out = append(out, nil)
		}
		copy(out[at+1:], out[at:])
		out[at] = c
	}
	return out
}
