package k8ssync

import (
	"context"

	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"fairlead/k8ssync/election"
	"fairlead/k8ssync/report"
)

// newElection makes this node's part in finding out who writes.
func (s *Sync) newElection() (*election.Election, error) {
	client, err := coordinationclient.NewForConfigAndClient(s.conn.REST(), s.conn.HTTP())
	if err != nil {
		return nil, err
	}
	lease := s.cfg.Settings.LeaseNamespace + "/" + s.cfg.Settings.LeaseName
	return election.New(election.Config{
		Client: client, Namespace: s.cfg.Settings.LeaseNamespace, Name: s.cfg.Settings.LeaseName, Node: s.cfg.Fellows.Self(),
		Preferred: func() string { return report.Candidate(s.cfg.Fellows, lease) },
		Gone:      report.GoneOf(s.cfg.Fellows),
		Watch:     s.cfg.Fellows.Watch,
		Log:       s.log,
	})
}

// write stands for the Lease once everything is in force here, and writes while
// this node holds it.
func (s *Sync) write(ctx context.Context) error {
	select {
	case <-s.inForce:
	case <-ctx.Done():
		return nil
	}
	s.election.Run(ctx, s.lead)
	return nil
}

// Writer says which node writes, as far as this one knows.
func (s *Sync) Writer() election.Status { return s.election.Status() }
