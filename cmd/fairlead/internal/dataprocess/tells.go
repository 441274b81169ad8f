package dataprocess

import (
	"fmt"

	"fairlead/dataplane/tell"
)

// mapTells maps the memory by which peers of the node are told of flows, and
// tell. Workers go on where those of the process before have stopped.
func (p *process) mapTells(fd int) error {
	if want := tell.Size(p.setup.Workers); p.setup.Tells != want {
		return fmt.Errorf("tells: %d bytes for %d workers, %d are right", p.setup.Tells, p.setup.Workers, want)
	}
	mem, err := mapShared(fd, p.setup.Tells)
	if err != nil {
		return fmt.Errorf("map tells: %w", err)
	}
	p.tells, err = tell.NewWorkers(mem, p.setup.Workers)
	return err
}
