package dataprocess

import (
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"fairlead/dataplane/ipc"
)

// profile begins to record where this process spends its CPU time, into the
// file that came with the message. Forwarding goes on. Whoever asks is told
// when the file is complete; one recording is made at a time.
func (p *process) profile(m *ipc.Message) error {
	var body ipc.Profile
	if err := m.Decode(ipc.KindProfile, &body, 1); err != nil {
		return err
	}
	file := os.NewFile(uintptr(m.FDs[0]), "profile")
	if err := pprof.StartCPUProfile(file); err != nil {
		file.Close()
		return p.conn.Send(ipc.KindProfiled, ipc.Profiled{Error: err.Error()})
	}
	conn := p.conn
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		select {
		case <-time.After(time.Duration(body.Milliseconds) * time.Millisecond):
		case <-p.stopping:
		}
		pprof.StopCPUProfile()
		answer := ipc.Profiled{}
		if err := file.Close(); err != nil {
			answer.Error = fmt.Sprintf("close the profile: %v", err)
		}
		_ = conn.Send(ipc.KindProfiled, answer) // a control process that is gone wants no answer
	}()
	return nil
}
