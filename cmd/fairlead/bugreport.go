package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/bugreport"
	"fairlead/cmd/fairlead/internal/doctor"
	"fairlead/cmd/fairlead/internal/output"
	"fairlead/configs"
)

// reportWithin is how long a whole report may take.
const reportWithin = 5 * time.Minute

func newBugreport() *cobra.Command {
	c := &cobra.Command{
		Use:   "bugreport",
		Short: "Gather what is needed to find out what is wrong with a node, in one archive",
		Long: `Gather what is needed to find out what is wrong with a node, in one archive
(.tar.gz, at most 64 MiB before compression): versions, what is desired, status,
services, backends, counters, the last lines of the log, what its goroutines do,
what "fairlead doctor" finds, and facts about the kernel and the interfaces. It
needs the operator role for the log and the goroutines; what cannot be found out
is listed with the reason, and the rest is there.

Secrets are taken out: the hash seed, whatever a key names as a password, secret
or token, PEM blocks, and what health checks send and run. Flows are not in it.
Addresses, names and routes are: look at it before you send it to somebody.`,
		Args: cobra.NoArgs,
	}
	node, out := nodeFlag(c), output.Flags(c)
	config := configFlag(c)
	file := c.Flags().StringP("file", "f", "", `archive to write; "-" is standard output (default fairlead-bugreport-TIME.tar.gz here)`)
	c.RunE = func(*cobra.Command, []string) error {
		name := *file
		if name == "" {
			name = "fairlead-bugreport-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
		}
		items, err := writeReportFile(name, node, *config)
		if err != nil || name == "-" {
			return err
		}
		return out.Write(os.Stdout, map[string]any{"file": name, "items": items}, func(w io.Writer) error {
			t := out.Table("FILE", ">SIZE", "NOTE")
			for _, i := range items {
				t.Row(i.Name, output.Bytes(uint64(i.Bytes)), i.Note)
			}
			if err := t.Flush(w); err != nil {
				return err
			}
			_, err := fmt.Fprintf(w, "\n%s is written. Look at it before you send it to somebody.\n", name)
			return err
		})
	}
	return c
}

// writeReportFile writes the archive, which only its owner may read. One that
// is not complete is taken away again.
func writeReportFile(name string, node *nodeFlags, config string) (items []bugreport.Item, err error) {
	if name == "-" {
		return gather(os.Stdout, node, config)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	items, err = gather(f, node, config)
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(name))
	}
	return items, err
}

func gather(out io.Writer, node *nodeFlags, config string) ([]bugreport.Item, error) {
	client, err := node.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := askContext(reportWithin)
	defer cancel()
	now := time.Now()
	r := bugreport.New(out, "fairlead-bugreport-"+now.UTC().Format("20060102T150405Z"), now)
	version, err := json.Marshal(ownVersion())
	if err := r.Add("version.json", version, err); err != nil {
		return nil, err
	}
	if err := r.Node(ctx, client); err != nil {
		return nil, err
	}
	if node.server == "" { // this machine is the node's
		if err := r.Add("doctor.json", examined(config, node.socket), nil); err != nil {
			return nil, err
		}
		var interfaces []string
		if s, err := client.Summary(ctx); err == nil {
			for _, i := range s.Interfaces {
				interfaces = append(interfaces, i.Name)
			}
		}
		if err := r.Machine(ctx, interfaces); err != nil {
			return nil, err
		}
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	return r.Items, ctx.Err()
}

// examined is what the doctor finds, in JSON.
func examined(config, socket string) []byte {
	var s doctor.Subjects
	if cfg, err := configs.Load(config); err == nil {
		s.Config = cfg
	}
	if summary, pid, err := askNode(socket); err == nil {
		s.Node, s.PID = summary, pid
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	if err := encoder.Encode(doctor.Examine(s)); err != nil {
		return []byte(err.Error())
	}
	return text.Bytes()
}
