// Command measure floods a service that a thousand TCP connections use, by each
// method and with flow memos and without, and says what share of their exchanges
// they keep. docs/performance.md says how that is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"fairlead/perf/attack"
)

// wanted is the share that connections are to keep.
const wanted = 0.9

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	binary := flags.String("fairlead", "", "the fairlead `binary`")
	rounds := flags.Int("rounds", 5, "how many rounds")
	duration := flags.Duration("duration", 5*time.Second, "how long each half of a round takes")
	connections := flags.Int("connections", 1000, "how many connections")
	pace := flags.Duration("pace", 250*time.Millisecond, "time between two requests on a connection")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *binary == "" || flags.NArg() > 0 {
		return errors.New("give the binary with -fairlead, and nothing else but flags")
	}
	if runtime.NumCPU() < 2 {
		return errors.New("two CPUs are needed: one for the flood, one for all else")
	}
	dir, err := os.MkdirTemp("", "fairlead-attack-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "method\tflow memo\tshare\trounds\texchanges/s\tsent again/s\tflood Mpps\tbroken\t")
	for _, method := range []string{"nat", "ipip"} {
		for _, memo := range []string{"off", "on"} {
			s := attack.Setup{
				Binary: *binary, Method: method, FlowMemo: memo, Connections: *connections, Pace: *pace,
				TableSize: 100_000, Duration: *duration, FloodCPU: 0, WorkerCPU: runtime.NumCPU() - 1,
			}
			if err := measure(ctx, s, dir, *rounds, table); err != nil {
				return fmt.Errorf("%s, flow memo %s: %w", method, memo, err)
			}
		}
	}
	return table.Flush()
}

// measure runs one setup in rounds and writes a line.
func measure(ctx context.Context, s attack.Setup, dir string, rounds int, table io.Writer) error {
	var shares, exchanges, resent, flood []float64
	broken := 0
	for round := range rounds {
		ctx, cancel := context.WithTimeout(ctx, time.Minute+2*s.Duration)
		s.Dir = filepath.Join(dir, fmt.Sprintf("%s-%s-%d", s.Method, s.FlowMemo, round))
		err := os.Mkdir(s.Dir, 0o755)
		var r *attack.Result
		if err == nil {
			r, err = attack.Run(ctx, s)
		}
		cancel()
		if err != nil {
			return err
		}
		seconds := r.Attack.Duration.Seconds()
		shares = append(shares, r.Share())
		exchanges = append(exchanges, r.Attack.Rate())
		resent = append(resent, float64(r.Attack.Resent)/seconds)
		flood = append(flood, float64(r.Attack.Frames)/seconds/1e6)
		broken += r.Broken
	}
	verdict := "met"
	if median(shares) < wanted || broken > 0 {
		verdict = "missed"
	}
	fmt.Fprintf(table, "%s\t%s\t%.3f\t%.2f\t%.0f\t%.0f\t%.2f\t%d\t%s\n", s.Method, s.FlowMemo, median(shares), shares, median(exchanges), median(resent), median(flood), broken, verdict)
	return nil
}

// median is the middle of an odd number of values, or the upper of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
