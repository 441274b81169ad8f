package flow

// stateNames are stable: operators filter by them.
var stateNames = [numStates]string{"free", "half_open", "established", "fin_wait", "closed", "unreplied", "stream", "affinity"}

// String gives the state's stable name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// States are all states that a record in use may have, in order.
func States() []State {
	all := make([]State, 0, numStates)
	for s := StateHalfOpen; int(s) < numStates; s++ {
		all = append(all, s)
	}
	return all
}

// Active reports whether packets of a flow in this state are to be expected: it
// is neither at its end nor a session affinity record.
func (s State) Active() bool { return s != StateFree && s != StateClosed && s != StateAffinity }
