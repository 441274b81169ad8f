package k8ssync

import "fairlead/k8ssync/report"

// report tells the other nodes how far this one has come.
func (s *Sync) report() {
	if s.publisher == nil {
		return
	}
	st := s.Status()
	s.publisher.Set(report.Report{
		Connected: st.Connection.Connected, Synced: !st.Synced.IsZero(), Since: st.Connection.Since, Error: st.Connection.Error,
		Services: st.Services, Gateways: st.Gateways, Groups: st.Groups, Refused: report.RefusedOf(s.refusedNow()),
	})
}
