package quorum

// judge is the verdict on a backend by the views that count: so many nodes find it
// up, so many down, and so many have been asked to look and have not answered yet.
// before is what it was taken for until now.
//
// A backend is down when more find it down than up. A tie leaves it up: to send a
// share of the connections to a backend that may be dead does less harm than to
// empty a pool that may be alive. While answers that could change the result are
// awaited, what was holds. Without any view, it holds, too.
//
// But for these two the verdict depends on the present views alone, so that nodes
// with the same views have the same verdict, whatever they have seen before.
func judge(before State, up, down, awaited int) State {
	switch {
	case down > up+awaited:
		return Down
	case up > 0 && up >= down+awaited:
		return Up
	case awaited > 0 && before != Unknown:
		return before
	case down > up:
		return Down
	case up > 0:
		return Up
	}
	return before
}
