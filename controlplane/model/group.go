package model

// Group is what one object of a live source, such as a Kubernetes Service, wants
// of the data path. It is put in force as a whole, or refused as a whole.
type Group struct {
	// Name is unique in its source, and stays for as long as the object lives.
	Name     string
	VIPs     []VIP // may be listed by several groups, with the same settings
	Services []Service
	Pools    []Pool
}

// ClashError is why a group is refused: another one, or an operator, has what it wants.
type ClashError struct {
	Rival   string // the name of the service or group that has it
	Message string // complete
}

// Error gives the message.
func (e *ClashError) Error() string { return e.Message }
