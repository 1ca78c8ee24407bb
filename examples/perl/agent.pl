# An agent in Perl, without any module: what the stdio interface asks for is not much.
use strict;
use warnings;

local $/;
my $request = <STDIN>;
my ($prompt) = $request =~ /"prompt": "((?:[^"\\]|\\.)*)"/s or die "no prompt in the request\n";
$prompt =~ s/\\(u[0-9a-fA-F]{4}|.)/unescape($1)/ges;
print answer($prompt);

sub unescape {
    my ($code) = @_;
    my %plain = (n => "\n", t => "\t", r => "\r", b => "\b", f => "\f");
    return chr hex substr($code, 1) if $code =~ /^u.{4}/;
    return $plain{$code} // $code;
}

sub answer {
    my ($text) = @_;
    return calculate($1) if $text =~ /Compute: ([\d\s.+\-*\/()]+?)\.(?:\s|$)/;
    return scalar reverse $1 if $text =~ /Reverse this string: (\S+?)\.?\s/;
    if ($text =~ /the letter "(\w)" occur in: (.+)/) {
        my ($letter, $words) = ($1, $2);
        return scalar(() = $words =~ /$letter/g);
    }
    if ($text =~ /Sort these numbers in ascending order:([-\d,\s]+)/) {
        return "[" . join(", ", sort { $a <=> $b } $1 =~ /-?\d+/g) . "]";
    }
    if ($text =~ /Which weekday is (\d+)-(\d+)-(\d+)/) {
        return (qw(Sunday Monday Tuesday Wednesday Thursday Friday Saturday))[days($1, $2, $3) % 7];
    }
    if ($text =~ /How many days after (\d+)-(\d+)-(\d+) is (\d+)-(\d+)-(\d+)/) {
        return days($4, $5, $6) - days($1, $2, $3);
    }
    if ($text =~ /Convert: ([\d.]+) kilometres per hour to metres per second/) {
        return $1 / 3.6;
    }
    if ($text =~ /prime numbers are there below (\d+)/) {
        return primes_below($1);
    }
    return "I do not know.";
}

# By Perl's own rules, which are ours here: the pattern above lets only arithmetic through.
sub calculate {
    my $value = eval $_[0];
    return defined $value ? $value : "I do not know.";
}

# Since a Sunday long ago, in the Gregorian calendar.
sub days {
    my ($year, $month, $day) = @_;
    if ($month < 3) { $year--; $month += 12 }
    my $leaps = int($year / 4) - int($year / 100) + int($year / 400);
    return 365 * $year + $leaps + int((153 * $month - 457) / 5) + $day + 0 - 306 + 7 * 100;
}

sub primes_below {
    my ($limit) = @_;
    my ($sieve, $count) = ("\1" x $limit, 0);
    for my $n (2 .. $limit - 1) {
        next unless ord substr($sieve, $n, 1);
        $count++;
        for (my $m = $n * $n; $m < $limit; $m += $n) { substr($sieve, $m, 1) = "\0" }
    }
    return $count;
}
