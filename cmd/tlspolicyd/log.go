package main

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// newLogger returns a logger that writes to w in one of the formats of the
// configuration key log.format: journal, console or json.
func newLogger(w io.Writer, level zapcore.LevelEnabler, format string) *zap.Logger {
	core := zapcore.NewCore(newEncoder(format), zapcore.Lock(zapcore.AddSync(w)), level)
	return zap.New(core)
}

// logFormat settles the format "auto": journal priorities under systemd, plain
// lines on a terminal, else JSON.
func logFormat(format string, f *os.File, env func(string) string) string {
	if format != "auto" {
		return format
	}
	if toJournal(f, env) {
		return "journal"
	}
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return "console"
	}
	return "json"
}

// toJournal reports whether what is written to f goes to the journal. The variable
// alone does not say so: whatever systemd's services start inherits it, and may write
// elsewhere (systemd.exec(5)).
func toJournal(f *os.File, env func(string) string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && env("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

func newEncoder(format string) zapcore.Encoder {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339TimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	config.TimeKey, config.MessageKey = "time", "message"
	switch format {
	case "journal":
		// The journal notes the time itself, and the priority is the prefix.
		config.TimeKey, config.LevelKey = "", ""
		return journalEncoder{zapcore.NewConsoleEncoder(config)}
	case "console":
		return zapcore.NewConsoleEncoder(config)
	default:
		return zapcore.NewJSONEncoder(config)
	}
}

// journalEncoder puts the syslog priority before each line, as
// sd-daemon(3) describes.
type journalEncoder struct{ zapcore.Encoder }

func (e journalEncoder) Clone() zapcore.Encoder { return journalEncoder{e.Encoder.Clone()} }

func (e journalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	defer line.Free()
	out := linePool.Get()
	fmt.Fprintf(out, "<%d>", priority(entry.Level))
	_, err = out.Write(line.Bytes())
	return out, err
}

var linePool = buffer.NewPool()

// priority returns the syslog priority of a level.
func priority(level zapcore.Level) int {
	switch level {
	case zapcore.DebugLevel:
		return 7
	case zapcore.InfoLevel:
		return 6
	case zapcore.WarnLevel:
		return 4
	case zapcore.ErrorLevel:
		return 3
	default:
		return 2
	}
}
